"""What people are shown of a change."""

from __future__ import annotations

import cbor2
import msgpack
import pytest

from broker.protocol.constants import Prop
from broker.protocol.properties import write_bare
from plugins.host.frame import Fields
from plugins.tools.difference import difference, shown, shown_payload


def lines(before: bytes, after: bytes) -> list[str]:
    return [f"{mark} {text}" for mark, text in difference(Fields(b"t", before), Fields(b"t", after))]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (b'{"a":1,"b":2}', b'{"a":1}', ["- b: 2"]),
        (b'{"a":1}', b'{"a":1,"region":"eu"}', ['+ region: "eu"']),
        (
            b'{"a":{"b":[1,{"c":"x"}]}}',
            b'{"a":{"b":[1,{"c":null}]}}',
            ['- a.b[1].c: "x"', "+ a.b[1].c: null"],
        ),
        (b'{"a":[1,2]}', b'{"a":[1]}', ["- a: [1, 2]", "+ a: [1]"]),
        (b'{"a":1.50}', b'{"a":1.5}', ["- a: 1.50", "+ a: 1.5"]),
        (b'{"a":1}', b'{"a":"1"}', ["- a: 1", '+ a: "1"']),
        (b'{"a":true}', b'{"a":1}', ["- a: true", "+ a: 1"]),
        (b'{"a": 1}', b'{"a":1}', ['- {"a": 1}', '+ {"a":1}']),
        (b'{"a":1}', b"[1]", ['- {"a": 1}', "+ [1]"]),
        (b"21.5", b"21", ["- 21.5", "+ 21"]),
        (b"text", b'{"a":1}', ["- text", '+ {"a":1}']),
        (b"\xff\x00", b"", ["- hex ff 00", "+ "]),
        (b"[" * 100_000, b"", [f"- {'[' * 2000}... (100000 bytes)", "+ "]),
        ('{"ä":"ü"}'.encode(), '{"ä":"\\u001b"}'.encode(), ['- ä: "ü"', '+ ä: "\\u001b"']),
        (b'{"a":1}', b'{"a":1}', []),
        (b'{"a":1,"a":2}', b'{"a":1,"a":0}', ['- {"a":1,"a":2}', '+ {"a":1,"a":0}']),
        (
            cbor2.dumps({"a": {"card": "4111"}, "n": [1.5]}),
            cbor2.dumps({"a": {"card": "***"}, "n": [1.0]}),
            ['- a.card: "4111"', '+ a.card: "***"', "- n[0]: 1.5", "+ n[0]: 1.0"],
        ),
        (msgpack.packb({"a": 1, "b": b"\0"}), msgpack.packb({"a": 1}), ["- b: h'00'"]),
    ],
)
def test_payloads(before: bytes, after: bytes, expected: list[str]) -> None:
    assert lines(before, after) == expected


def test_payloads_of_binary_formats_are_shown_as_what_they_say() -> None:
    assert shown_payload(cbor2.dumps({"a": "\x1b[31m"})) == 'CBOR {"a": "\\u001b[31m"}'
    assert shown_payload(msgpack.packb({"\u00e4": 1})) == 'MessagePack {"\u00e4": 1}'
    assert shown_payload(b"\xff\x00") == "hex ff 00"
    assert shown_payload(b'{"a":1}') == '{"a":1}'


def test_all_that_can_change() -> None:
    before = Fields(b"a", b"x", b"", b"me", 0, False)
    after = Fields(b"b", b"x", b"\x01\x01", b"me", 1, True)
    assert [f"{mark} {text}" for mark, text in difference(before, after)] == [
        *("- topic a", "+ topic b"),
        *("- QoS 0", "+ QoS 1"),
        *("- retain False", "+ retain True"),
        "+ payload_format_indicator 1",
    ]


def test_nothing_reaches_the_terminal_that_it_would_obey() -> None:
    assert shown(b"\x1b[31mred\r\n\x9b") == "hex 1b 5b 33 31 6d 72 65 64 0d 0a 9b"
    assert shown("\x1b[31mred\r\n\u202e\x85".encode()) == "\\x1b[31mred\\r\\n\\u202e\\x85"


def test_properties_by_their_names() -> None:
    content = write_bare({Prop.CONTENT_TYPE: "text/plain"})
    everything = write_bare(
        {
            Prop.CONTENT_TYPE: "text/plain",
            Prop.CORRELATION_DATA: b"\xff\x00",
            Prop.USER_PROPERTY: [("driver", "Anna\x1b"), ("driver", "Ben")],
        }
    )
    assert [
        f"{mark} {text}"
        for mark, text in difference(Fields(b"t", b"", everything), Fields(b"t", b"", content))
    ] == [
        "- correlation_data hex ff 00",
        "- user_property driver: Anna\\x1b",
        "- user_property driver: Ben",
    ]
    broken = difference(Fields(b"t", b"", b"\x7f"), Fields(b"t", b""))
    assert [f"{mark} {text}" for mark, text in broken] == ["- properties \\x7f"]
