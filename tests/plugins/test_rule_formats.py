"""CBOR, MessagePack, plain text, and finding out which it is, against the formats' own libraries."""

from __future__ import annotations

import hmac
import json
import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import cbor2
import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.protocol.properties import write_bare
from plugins.host.frame import Fields
from tests.plugins.rules import Rules, Shop
from tests.plugins.test_rules import PATHS, expected

CONTENT_TYPE = 0x03


class Codec:
    """A format as its library has it."""

    def __init__(self, name: str, write: Callable[[Any], bytes], read: Callable[[bytes], Any]) -> None:
        self.name, self.write, self.read = name, write, read


def unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, strict_map_key=False)


CODECS = [
    Codec("cbor", cbor2.dumps, cbor2.loads),
    Codec("msgpack", msgpack.packb, unpack),
    Codec("json", lambda value: json.dumps(value).encode(), json.loads),
]
BINARY = CODECS[:2]
both = pytest.mark.parametrize("codec", BINARY, ids=lambda codec: codec.name)
every = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


def run(codec: Codec, payload: bytes, *steps: dict[str, Any]) -> bytes | None:
    rules = Rules(*steps, format=codec.name)
    after = rules.one(payload)
    rules.close()
    return None if after is None else after.payload


REDACT = {"action": "redact", "path": "a"}
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40),
)
NAMES = st.sampled_from(["a", "b", "name", "0", "1", "é", "x" * 40])
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(NAMES, inner, max_size=20),
    max_leaves=40,
)


@every
@settings(max_examples=80, deadline=None)
@given(document=DOCUMENTS, levels=PATHS)
def test_redaction_agrees_with_the_model(codec: Codec, document: Any, levels: list[str]) -> None:
    before = codec.write(document)
    after = run(codec, before, {"action": "redact", "path": ".".join(levels)})
    assert after is not None
    assert codec.read(after) == expected(codec.read(before), [levels])


@every
@settings(max_examples=80, deadline=None)
@given(document=DOCUMENTS)
def test_what_changes_nothing_changes_no_byte(codec: Codec, document: Any) -> None:
    before = codec.write(document)
    again = {"action": "set", "path": "new.one", "to": 1}
    assert run(codec, before, {"action": "redact", "path": "**.none"}) == before
    after = run(codec, before, again, {"action": "remove", "path": "new"})
    assert after is not None
    assert codec.read(after) == codec.read(before)


@every
@settings(max_examples=80, deadline=None)
@given(document=st.dictionaries(NAMES, DOCUMENTS, max_size=20), put=LEAVES)
def test_members_go_and_come(codec: Codec, document: dict[str, Any], put: Any) -> None:
    if isinstance(put, str):
        put = put.replace("{", "")
    after = run(
        codec,
        codec.write(document),
        {"action": "remove", "paths": ["a", "b"]},
        {"action": "set", "path": "b", "to": put},
        {"action": "set", "path": "new.inner", "to": -7},
    )
    assert after is not None
    left = {key: value for key, value in document.items() if key not in ("a", "b", "new")}
    assert codec.read(after) == {**left, "b": put, "new": {"inner": -7}}


@both
@settings(max_examples=150, deadline=None)
@example(number=70368744177664.125)  # half way between two decimals of as many digits
@example(number=70368744177664.375)
@example(number=2.0**-24)
@given(number=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1))
def test_numbers_are_the_decimals_that_people_write(codec: Codec, number: float) -> None:
    keep = {"action": "keep", "when": {"path": "v", "equals": number}}
    copy = {"action": "emit", "topic": "t", "payload": ["{path:v}"]}
    rules = Rules(keep, copy, format=codec.name)
    assert rules.passes(codec.write({"v": number}))
    rules.close()
    found = rules.emitted[0].payload[1:-1].decode()
    assert type(number)(found) == number
    if isinstance(number, float) and 1e-4 < abs(number) < 1e16:
        assert found == repr(number).removesuffix(".0"), "the shortest that is this number"


@both
@settings(max_examples=150, deadline=None)
@given(bits=st.integers(0, 2**32 - 1))
def test_single_precision(codec: Codec, bits: int) -> None:
    (number,) = struct.unpack(">f", bits.to_bytes(4, "big"))
    head = b"\xfa" if codec.name == "cbor" else b"\xca"
    rules = Rules({"action": "emit", "topic": "t", "payload": ["{path:$}"]}, format=codec.name)
    rules.one(head + bits.to_bytes(4, "big"))
    rules.close()
    if not math.isfinite(number):
        assert rules.emitted[0].payload == b"[null]"
        return
    found = rules.emitted[0].payload[1:-1].decode()
    assert struct.pack(">f", float(found)) == struct.pack(">f", number)
    digits = found.lstrip("-").split("e")[0].replace(".", "").strip("0")
    assert len(digits) <= 9


@settings(max_examples=200, deadline=None)
@given(bits=st.integers(0, 2**16 - 1))
def test_half_precision(bits: int) -> None:
    (number,) = struct.unpack(">e", bits.to_bytes(2, "big"))
    rules = Rules({"action": "emit", "topic": "t", "payload": ["{path:$}"]}, format="cbor")
    rules.one(b"\xf9" + bits.to_bytes(2, "big"))
    rules.close()
    found = json.loads(rules.emitted[0].payload)[0]
    if math.isfinite(number):
        assert struct.pack(">e", found) == struct.pack(">e", number)
    else:
        assert found is None


@both
@pytest.mark.parametrize(
    ("before", "to", "after"),
    [
        (52.520008, 0.01, 52.52),
        (-0.05, 0.1, -0.1),
        (1234, 10, 1230),
        (-37, 5, -35),
        (1.5, 1, 2.0),
        (2**63, 10, 2**63 + 2),
    ],
)
def test_round(codec: Codec, before: float, to: float, after: float) -> None:
    found = run(codec, codec.write({"a": before, "b": 1}), {"action": "round", "path": "a", "to": to})
    assert found is not None
    value = codec.read(found)["a"]
    assert value == after
    assert type(value) is type(before)


@every
def test_scalars_as_text(codec: Codec) -> None:
    rules = Rules(
        {"action": "emit", "topic": "{path:yes}/{path:no}/{path:n}", "payload": "{path:nil}{path:text}"},
        {"action": "hash", "paths": ["yes", "nil"], "key": "00112233445566778899aabbccddeeff"},
        format=codec.name,
    )
    after = rules.one(codec.write({"yes": True, "no": False, "n": -2.5, "nil": None, "text": "é"}))
    rules.close()
    assert (rules.emitted[0].topic, rules.emitted[0].payload.decode()) == ("true/false/-2.5", "nullé")
    assert after is not None
    digests = [
        hmac.new(bytes.fromhex("00112233445566778899aabbccddeeff"), text, "sha256")
        for text in (b"true", b"null")
    ]
    assert [codec.read(after.payload)[name] for name in ("yes", "nil")] == [
        one.hexdigest()[:16] for one in digests
    ]


@both
def test_lengths_at_their_limits(codec: Codec) -> None:
    for count in (15, 16, 23, 24, 31, 32, 255, 256, 65535, 65536):
        document = {"a": 1, "text": "x" * count, "list": list(range(count))}
        found = run(codec, codec.write(document), {"action": "set", "path": "b", "to": "y" * count})
        assert found == codec.write({**document, "b": "y" * count})
        found = run(codec, codec.write(document), {"action": "remove", "path": "list.0"})
        assert found == codec.write({**document, "list": list(range(1, count))})
    for number in (0, 23, 24, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1):
        for value in (number, max(-number - 1, -(2**63))):
            found = run(codec, codec.write({"a": 0}), {"action": "set", "path": "a", "to": value})
            assert found == codec.write({"a": value})


@both
def test_names_that_are_no_texts(codec: Codec) -> None:
    before = codec.write({1: "x", -2: "y", b"k": "z"})
    assert codec.read(run(codec, before, {"action": "redact", "path": "1"}) or b"") == {
        1: "***",
        -2: "y",
        b"k": "z",
    }
    assert codec.read(run(codec, before, {"action": "redact", "path": "-2"}) or b"")[-2] == "***"
    assert codec.read(run(codec, before, {"action": "redact", "path": "k"}) or b"")[b"k"] == "***"


def test_cbor_tags_and_endless_items() -> None:
    codec = BINARY[0]
    when = datetime(2026, 1, 1, tzinfo=UTC)
    before = cbor2.dumps(cbor2.CBORTag(55799, {"when": when, "a": 1}))
    after = run(codec, before, REDACT)
    assert after == before[:-1] + b"\x63***", "the tags around what is kept stay"
    endless = bytes.fromhex("bf 6161 01 6162 9f 01 7f 6161 6162 ff ff 6163 5f 4101 ff ff")
    assert run(codec, endless, {"action": "redact", "path": "b.0"}) == endless.replace(
        b"\x9f\x01", b"\x9f\x63***"
    )
    keep = {"action": "keep", "when": {"path": "b.1", "equals": "ab"}}
    assert run(codec, endless, keep) == endless
    assert run(codec, endless, {"action": "remove", "path": "b"}) == bytes.fromhex(
        "bf 6161 01 6163 5f 4101 ff ff"
    )


def test_what_json_has_no_word_for() -> None:
    codec = BINARY[1]
    before = msgpack.packb({"a": b"\xff\x00", "b": msgpack.ExtType(5, b"xyz"), "c": float("nan")})
    assert run(codec, before, {"action": "truncate", "paths": ["a", "b", "c"], "length": 5}) == msgpack.packb(
        {"a": "***", "b": "***", "c": "***"}
    )
    assert run(codec, before, {"action": "keep", "when": {"path": "c", "above": 0}}) is None


@pytest.mark.parametrize(
    "broken",
    [
        *(
            "1c",
            "1f",
            "62c328",
            "a16161",
            "a1",
            "8201",
            "ff",
            "9f01",
            "bf6161ff",
            "7f01ff",
            "7f7f6161ffff",
            "f801",
        ),
        *("5bffffffffffffffff", "9bffffffffffffffff", "c0", "0000", "81" * 65 + "00", "d8", "61"),
    ],
)
def test_what_is_no_cbor_is_dropped(broken: str) -> None:
    assert run(BINARY[0], bytes.fromhex(broken), REDACT) is None
    assert run(BINARY[0], bytes.fromhex("81" * 64 + "00"), REDACT) is not None


@pytest.mark.parametrize(
    "broken",
    [
        "c1",
        "a2c328",
        "81a161",
        "92c0",
        "d9ff",
        "dbffffffff",
        "dfffffffff",
        "c7",
        "cf00",
        "0000",
        "91" * 65 + "00",
    ],
)
def test_what_is_no_messagepack_is_dropped(broken: str) -> None:
    assert run(BINARY[1], bytes.fromhex(broken), REDACT) is None
    assert run(BINARY[1], bytes.fromhex("91" * 64 + "00"), REDACT) is not None


@both
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_bytes_do_harm(codec: Codec, data: st.DataObject) -> None:
    payload = bytearray(codec.write(data.draw(DOCUMENTS)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(payload)))
        payload[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    rules = Rules(
        {"action": "redact", "path": "**.a"},
        {"action": "remove", "path": "*.b"},
        {"action": "set", "path": "new", "to": "{path:**.name}"},
        format=codec.name,
    )
    after = rules.one(bytes(payload))
    rules.close()
    if after is not None and payload and after.payload != payload:
        rules = Rules({"action": "keep", "when": {"path": "nothing", "exists": False}}, format=codec.name)
        assert rules.passes(after.payload), "what was made can be read"
        rules.close()


MANY = {str(i): i for i in range(20)}


def test_text(make: Shop) -> None:
    rules = make({"action": "keep", "when": {"path": "$", "starts_with": "ok"}}, format="text")
    assert rules.passes("ok then")
    assert not rules.passes("no")
    assert not rules.passes(b"ok \xff")
    rules = make({"action": "emit", "topic": "t", "payload": {"text": "{path:$}"}}, format="text")
    rules.passes('5 "x"')
    assert rules.emitted[0].payload == b'{"text":"5 \\"x\\""}'


@pytest.mark.parametrize(
    ("payload", "content_type", "after"),
    [
        (b'{"a":1}', "", b'{"a":"***"}'),
        (b" [1]", "", b" [1]"),
        (cbor2.dumps({"a": 1}), "", cbor2.dumps({"a": "***"})),
        (msgpack.packb({"a": 1}), "", msgpack.packb({"a": "***"})),
        (
            msgpack.packb({str(i): i for i in range(20)} | {"a": 1}),
            "",
            msgpack.packb({str(i): i for i in range(20)} | {"a": "***"}),
        ),
        (cbor2.dumps(cbor2.CBORTag(55799, {"a": 1})), "", cbor2.dumps(cbor2.CBORTag(55799, {"a": "***"}))),
        (b"\x80", "", None),
        (b"plain", "", None),
        (b"plain", "text/plain; charset=utf-8", None),
        (b'{"a":1}', "text/plain", None),
        (b"\x80", "application/vnd.msgpack", b"\x80"),
        (b'{"a":1}', "Application/JSON", b'{"a":"***"}'),
        (b'{"a":1}', "application/cbor", None),
        (b'{"a":1}', "application/octet-stream", b'{"a":"***"}'),
    ],
)
def test_auto(make: Shop, payload: bytes, content_type: str, after: bytes | None) -> None:
    rules = make(REDACT, format="auto")
    properties = (
        write_bare({0x01: 1, 0x02: 60, 0x26: [("a", "b")], CONTENT_TYPE: content_type})
        if content_type
        else b""
    )
    (found,) = rules.run(Fields(b"t", payload, properties))
    assert (None if found is None else found.payload) == after


def test_a_text_is_read_by_its_content_type_where_no_path_leads_inside(make: Shop) -> None:
    steps = [
        {"path": "$", "action": "truncate", "length": 3},
        {"action": "keep", "when": {"path": "$", "exists": True}},
    ]
    rules = make(*steps, format="auto")
    (found,) = rules.run(Fields(b"t", b"plain", write_bare({CONTENT_TYPE: "text/plain"})))
    assert found is not None
    assert found.payload == b"pla"
