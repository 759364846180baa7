"""Steps that change how messages go on, put values in, or make further messages."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest

from broker.protocol.constants import Prop
from broker.protocol.properties import write_bare
from plugins.host.frame import Fields
from plugins.host.reasons import ModuleRefused
from tests.plugins.rules import Emitted, Rules, Shop

KEY = "00112233445566778899aabbccddeeff"


@pytest.mark.parametrize(
    ("to", "becomes"),
    [
        ("anon/{2}/{path:site}", "anon/gps/Berlin"),
        ("{topic}/raw", "fleet/17/gps/raw"),
        ("{region}/{node}/{client}/{user}/{qos}", "eu/gate-7/c-1/ana/1"),
        ("{path:n}/{path:yes}", "21.50/true"),
        ("a{b c}/{/}", "a{b c}/{/}"),
        ("x/{time_ms}", "x/1767265200000"),
        ("{9}/x", None),
        ("{path:gone}", None),
        ("{path:slash}", None),
        ("{path:plus}", None),
        ("{path:site.x}", None),
        ("{path:list}", None),
        ("{path:dollar}/x", None),
        ("a/{path:empty}/b", "a//b"),
        ("{path:empty}", None),
    ],
)
def test_topic(make: Shop, to: str, becomes: str | None) -> None:
    payload = json.dumps(
        {
            "site": "Berlin",
            "yes": True,
            "slash": "a/b",
            "plus": "+",
            "list": [1],
            "dollar": "$SYS",
            "empty": "",
        }
    )
    message = Fields(
        b"fleet/17/gps", payload[:-1].encode() + b', "n": 21.50}', client_id=b"c-1", qos=1, user=b"ana"
    )
    rules = make({"action": "topic", "to": to})
    expected = None if becomes is None else message._replace(topic=becomes.encode())
    assert rules.run(message) == [expected]
    rules = make({"action": "topic", "to": to}, on_undecodable="pass")
    assert rules.run(message) == [expected or message]


def test_what_is_dropped_because_it_cannot_be_read_is_counted(make: Shop) -> None:
    """Not what a step drops, and not what passes."""
    steps = [
        {"action": "drop", "when": {"path": "a", "equals": 0}},
        {"steps": [{"action": "topic", "to": "t/{path:a}"}]},
    ]
    batch = [
        Fields(b"t", payload)
        for payload in (b"{", b'{"a":0}', b'{"a":"b"}', b'{"a":"b/c"}', b'{"b":1}', b"\xff", b'{"a":1}')
    ]
    rules = make(*steps)
    assert [after and after.topic for after in rules.run(*batch)] == [None, None, b"t/b", *[None] * 3, b"t/1"]
    rules.run(batch[0])
    assert rules.metrics == {"undecodable": 5}
    lenient = make(*steps, on_undecodable="pass")
    assert lenient.run(*batch).count(None) == 1
    assert lenient.metrics == {}


def test_steps_see_the_new_topic(make: Shop) -> None:
    rules = make(
        {"action": "topic", "to": "b/{1}"},
        {"action": "keep", "when": {"topic": "b/#"}},
        {"action": "topic", "to": "c/{1}"},
        {"action": "redact", "path": "a"},
    )
    assert rules.one('{"a":1}', "a/x") == Fields(b"c/x", b'{"a":"***"}')
    assert rules.run(Fields(b"a/1", b"{}"), Fields(b"a/2", b"x"), Fields(b"a/3", b"[]")) == [
        Fields(b"c/1", b"{}"),
        None,
        Fields(b"c/3", b"[]"),
    ]


def test_a_topic_that_needs_the_payload_does_not_stay_as_it_is_without_one(make: Shop) -> None:
    """What deletes a retained message has no payload: under its topic as it was it would tell what is to be hidden."""
    rules = make({"action": "topic", "to": "anon/{path:id}", "when": {"topic": "vehicle/#"}})
    assert rules.run(Fields(b"vehicle/WDB1", b"", retain=True)) == [None]
    assert rules.metrics == {"undecodable": 1}
    assert rules.one("", "other/1") == Fields(b"other/1", b"")
    plain = make({"action": "topic", "to": "anon/{1}"})
    assert plain.one("", "vehicle/1") == Fields(b"anon/1", b"")


def digits(text: str, length: int = 16) -> str:
    return hmac.new(bytes.fromhex(KEY), text.encode(), "sha256").hexdigest()[:length]


@pytest.mark.parametrize(
    ("levels", "to", "topic", "becomes"),
    [
        ([1], None, "vehicle/WDB1/gps", f"vehicle/{digits('WDB1')}/gps"),
        ([0, 2], None, "a/b/c/d", f"{digits('a')}/b/{digits('c')}/d"),
        ([1], "{1}/{topic}", "a/b", f"{digits('b')}/a/{digits('b')}"),
        ([2], None, "a/b", "a/b"),
        ([1, 2], None, "a//", f"a/{digits('')}/{digits('')}"),
        ([0], None, "\u8eab/b", f"{digits(chr(0x8EAB))}/b"),
        ([1], "{5}", "a/b", None),
    ],
)
@pytest.mark.parametrize("payload", ["", "x", "{}"])
def test_levels_of_a_topic_are_hashed(
    make: Shop, levels: list[int], to: str | None, topic: str, becomes: str | None, payload: str
) -> None:
    """Whatever the payload is: also what deletes a retained message finds it under its new topic."""
    rules = make({"action": "topic", "hash": levels, "key": KEY} | ({"to": to} if to else {}))
    assert rules.one(payload, topic) == (becomes and Fields(becomes.encode(), payload.encode()))


def test_a_level_has_the_hash_of_the_value(make: Shop) -> None:
    rules = make(
        {"action": "topic", "hash": [0], "key": KEY, "length": 24},
        {"action": "hash", "path": "vin", "key": KEY, "length": 24},
    )
    after = rules.one('{"vin":"WDB1"}', "WDB1/gps")
    assert after == Fields(f"{digits('WDB1', 24)}/gps".encode(), f'{{"vin":"{digits("WDB1", 24)}"}}'.encode())


def test_a_topic_that_hashes_make_too_long_goes_no_further(make: Shop) -> None:
    rules = make({"action": "topic", "hash": [1], "key": KEY, "length": 64})
    assert rules.one("x", "a" * 65_471 + "/" + "b") is None
    assert rules.passes("x", "a" * 65_470 + "/" + "b")


@pytest.mark.parametrize(
    ("step", "becomes"),
    [
        ({"to": 1}, [1, 1, 1]),
        ({"to": 1, "mode": "at_most"}, [0, 1, 1]),
        ({"to": 2, "mode": "set"}, [2, 2, 2]),
    ],
)
def test_qos(make: Shop, step: dict[str, Any], becomes: list[int]) -> None:
    rules = make({"action": "qos", **step})
    after = rules.run(*(Fields(b"t", b"x", qos=qos) for qos in range(3)))
    assert after == [Fields(b"t", b"x", qos=qos) for qos in becomes]


def test_retain(make: Shop) -> None:
    rules = make({"action": "retain", "to": False})
    assert rules.one("x", retain=True) == Fields(b"t", b"x", retain=False)
    rules = make({"action": "retain", "to": True})
    assert rules.one("x") == Fields(b"t", b"x", retain=True)


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ({"path": "a", "to": 5}, '{ "b" : 1 }', '{ "b" : 1,"a":5 }'),
        ({"path": "a", "to": None}, "{ }", '{"a":null }'),
        ({"path": "a.b.c", "to": "x"}, '{"a":{}}', '{"a":{"b":{"c":"x"}}}'),
        ({"path": "a.b", "to": True}, '{"a":[1]}', '{"a":[1]}'),
        ({"path": "a.0", "to": True}, '{"a":[1]}', '{"a":[true]}'),
        ({"path": "a", "to": 2}, '{"a":1}', '{"a":2}'),
        ({"path": "a", "to": 2, "only_if_missing": True}, '{"a":null}', '{"a":null}'),
        ({"path": "a", "to": 2, "only_if_missing": True}, "{}", '{"a":2}'),
        ({"path": "a", "to": "{node}@{region}"}, "{}", '{"a":"gate-7@eu"}'),
        ({"path": "a", "to": "{time}"}, "{}", '{"a":"2026-01-01T11:00:00.000Z"}'),
        ({"path": "a", "to": "{time_ms}"}, "{}", '{"a":1767265200000}'),
        ({"path": "a", "to": "{path:b}"}, '{"b":1.50}', '{"b":1.50,"a":1.50}'),
        ({"path": "a", "to": "{path:b}"}, '{"b":[1]}', '{"b":[1]}'),
        ({"path": "a", "to": "{path:b}!"}, '{"b":"\\"x\\u00e9"}', '{"b":"\\"x\\u00e9","a":"\\"xé!"}'),
        ({"path": "a", "to": "{path:c}"}, '{"b":1}', '{"b":1}'),
        ({"path": "a", "to": "{1}"}, "{}", "{}"),
        ({"path": "a", "to": 1}, "[]", "[]"),
        ({"path": "$", "to": 1}, " [] ", " 1 "),
    ],
)
def test_set(make: Shop, step: dict[str, Any], before: str, after: str) -> None:
    rules = make({"action": "set", **step})
    assert rules.one(before) == Fields(b"t", after.encode())


def test_what_is_set_can_be_masked_and_removed(make: Shop) -> None:
    put = {"action": "set", "path": "a.b", "to": "x"}
    assert make(put, {"action": "redact", "path": "a.b"}).one("{}") == Fields(b"t", b'{"a":{"b":"***"}}')
    assert make(put, {"action": "redact", "path": "a"}).one("{}") == Fields(b"t", b'{"a":"***"}')
    assert make(put, {"action": "remove", "path": "a"}).one("{}") == Fields(b"t", b"{}")
    assert make(put, {"action": "remove", "path": "a.b"}).one('{"c":1}') == Fields(b"t", b'{"c":1,"a":{}}')
    back = {"action": "set", "path": "c", "to": 2}
    assert make({"action": "remove", "path": "c"}, back).one('{"c":1}') == Fields(b"t", b'{"c":2}')
    assert make({"action": "remove", "path": "c"}, back).one('{"c":1,"d":3}') == Fields(
        b"t", b'{"d":3,"c":2}'
    )


def test_emit(make: Shop) -> None:
    document = {"id": "{path:id}", "all": ["{0}", 1.50, None, {"no": "{path:no}"}], "text": 'n {path:id}"'}
    rules = make(
        {"action": "emit", "topic": "copy/{0}"},
        {"action": "redact", "path": "id"},
        {"action": "emit", "topic": "masked", "payload": "message", "qos": 1, "retain": True},
        {"action": "emit", "topic": "text", "payload": "{path:id} at {0}, {path:no}"},
        {"action": "set", "path": "id", "to": 7},
        {"action": "emit", "topic": "document", "payload": document, "when": {"path": "id", "equals": 7}},
        {"action": "drop"},
    )
    assert rules.run(Fields(b"a", b'{"id": 5}'), Fields(b"b", b'{"id": 6}')) == [None, None]
    assert rules.emitted[:4] == [
        Emitted("copy/a", b'{"id": 5}', 0, False),
        Emitted("masked", b'{"id": "***"}', 1, True),
        Emitted("text", b"*** at a, ", 0, False),
        Emitted("document", b'{"id":7,"all":["a",1.5,null,{"no":null}],"text":"n 7\\""}', 0, False),
    ]
    assert [emitted.topic for emitted in rules.emitted[4:]] == ["copy/b", "masked", "text", "document"]


def test_what_is_emitted_stands_beside_what_is_changed(make: Shop) -> None:
    rules = make(
        {"action": "redact", "path": "a"},
        {"action": "emit", "topic": "{topic}/copy"},
        {"action": "topic", "to": "n/{0}"},
    )
    payload = json.dumps({"a": 1, "b": "x" * 500}).encode()
    after = rules.run(*(Fields(f"t{i}".encode(), payload) for i in range(20)))
    masked = payload.replace(b"1", b'"***"')
    assert after == [Fields(f"n/t{i}".encode(), masked) for i in range(20)]
    assert rules.emitted == [Emitted(f"t{i}/copy", masked, 0, False) for i in range(20)]


def test_alert(make: Shop) -> None:
    rules = make(
        {
            "action": "alert",
            "name": "hot",
            "text": "{path:t} degrees at {1}",
            "topic": "alerts/{1}",
            "at_most_every": "30s",
            "when": {"path": "t", "above": 90},
        }
    )
    assert rules.passes('{"t":95}', "site/a")
    assert rules.passes('{"t":96}', "site/a")
    assert rules.passes('{"t":20}', "site/b")
    assert rules.passes('{"t":97}', "site/b")
    rules.restart()
    rules.now += 29
    assert rules.passes('{"t":98}', "site/a")
    assert rules.alerts == [("hot", "95 degrees at a"), ("hot", "97 degrees at b")]
    rules.now += 1
    assert rules.passes('{"t":99}', "site/a")
    assert rules.alerts[2:] == [("hot", "99 degrees at a")]
    assert [(emitted.topic, emitted.qos, emitted.retain) for emitted in rules.emitted] == [
        ("alerts/a", 1, False),
        ("alerts/b", 1, False),
        ("alerts/a", 1, False),
    ]
    assert json.loads(rules.emitted[0].payload) == {
        "alert": "hot",
        "text": "95 degrees at a",
        "topic": "site/a",
        "time": "2026-01-01T11:00:00.000Z",
    }


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"action": "topic"}, ".to: is required"),
    (
        {"action": "topic", "to": "{foo}"},
        '.to: "{foo}" has an unknown place in braces; allowed: a topic level',
    ),
    ({"action": "topic", "to": "{path:a..b}"}, '.to: "{path:a..b}" has an empty level'),
    ({"action": "topic", "hash": []}, ".hash: [] is not a list of the topic's levels"),
    ({"action": "topic", "hash": [0, -1], "key": KEY}, ".hash[1]: -1 is not a whole number from 0 to 65535"),
    ({"action": "topic", "hash": [0] * 17, "key": KEY}, ".hash[16]: is one level too many"),
    ({"action": "topic", "hash": [0]}, ".key: "),
    ({"action": "topic", "to": "a", "key": KEY}, ": key and length need hash"),
    ({"action": "qos", "to": 3}, ".to: 3 is not a whole number from 0 to 2"),
    ({"action": "qos", "to": 1, "mode": "least"}, '.mode: "least" is not one of: set at_most'),
    ({"action": "retain"}, ".to: is required"),
    ({"action": "set", "path": "a.*", "to": 1}, '.path: "a.*" has stars'),
    ({"action": "set", "path": "a"}, ".to: is required"),
    ({"action": "set", "path": "a", "to": []}, ".to: [] is not a scalar"),
    ({"action": "emit"}, ".topic: is required"),
    (
        {"action": "emit", "topic": "t", "payload": {"a": ["{x}"]}},
        '.payload[0]: "{x}" has an unknown place',
    ),
    ({"action": "alert", "name": "a"}, ".text: is required"),
    ({"action": "alert", "name": "a+", "text": "t"}, '.name: "a+" must not have + and #'),
    ({"action": "emit", "topic": "{0}" * 65}, ".topic: "),
]


@pytest.mark.parametrize(("step", "words"), MISTAKES)
def test_mistakes(step: dict[str, Any], words: str) -> None:
    with pytest.raises(ModuleRefused) as caught:
        Rules(step)
    assert str(caught.value).startswith(f"steps[0]{words}")


ALL_PROPERTIES: dict[int, Any] = {
    Prop.PAYLOAD_FORMAT_INDICATOR: 1,
    Prop.CONTENT_TYPE: "application/cbor",
    Prop.RESPONSE_TOPIC: "reply/Anna",
    Prop.CORRELATION_DATA: b"\x00Anna",
    Prop.USER_PROPERTY: [("driver", "Anna"), ("", ""), ("k", "ü" * 200)],
}
BY_NAME = {
    "payload_format_indicator": Prop.PAYLOAD_FORMAT_INDICATOR,
    "content_type": Prop.CONTENT_TYPE,
    "response_topic": Prop.RESPONSE_TOPIC,
    "correlation_data": Prop.CORRELATION_DATA,
    "user_property": Prop.USER_PROPERTY,
}


@pytest.mark.parametrize("name", BY_NAME)
def test_properties(make: Shop, name: str) -> None:
    sent = write_bare(ALL_PROPERTIES)
    kept = make({"action": "properties", "keep": [name]}).one("1", properties=sent)
    assert kept is not None
    assert kept.properties == write_bare({BY_NAME[name]: ALL_PROPERTIES[BY_NAME[name]]})
    left = make({"action": "properties", "remove": [name]}).one("1", properties=sent)
    assert left is not None
    others = {key: value for key, value in ALL_PROPERTIES.items() if key != BY_NAME[name]}
    assert left.properties == write_bare(others)


def test_properties_without_any_and_with_all(make: Shop) -> None:
    rules = make({"action": "properties", "keep": []}, {"action": "topic", "to": "x/{topic}"})
    sent = write_bare(ALL_PROPERTIES)
    for payload in ("", "{}", "no JSON"):
        assert rules.one(payload, properties=sent) == Fields(b"x/t", payload.encode())
        assert rules.one(payload) == Fields(b"x/t", payload.encode())
    keeps_all = make({"action": "properties", "keep": list(BY_NAME)})
    before = Fields(b"t", b"1", sent)
    assert keeps_all.run(before) == [before]


def test_properties_that_cannot_be_read_go(make: Shop) -> None:
    rules = make({"action": "properties", "keep": list(BY_NAME)})
    good = write_bare({Prop.CONTENT_TYPE: "a"})
    for broken in (b"\x03", b"\x03\x00", b"\x03\x00\x05abc", b"\x26\x00\x01a", b"\x7f", b"\x01"):
        after = rules.one("1", properties=good + broken)
        assert after is not None
        assert after.properties == good


def test_the_content_type_counts_after_it_was_taken_away(make: Shop) -> None:
    steps = [{"action": "properties", "keep": []}, {"action": "redact", "path": "name"}]
    after = make(*steps, format="auto").one(
        bytes.fromhex("a1646e616d6561 41".replace(" ", "")),
        properties=write_bare({Prop.CONTENT_TYPE: "application/cbor"}),
    )
    assert after is not None
    assert (after.payload, after.properties) == (bytes.fromhex("a1646e616d65632a2a2a"), b"")
