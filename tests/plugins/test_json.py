"""JSON in the built-in rules against RFC 8259: the kinds of cases that public test suites have, written anew.

What has to be accepted, passes byte for byte; what has to be refused is dropped; what a parser may do either way is
said here.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.host.engine import Instance
from plugins.host.frame import Fields, decode_result, encode_request
from plugins.host.limits import Limits
from tests.plugins.rules import Rules, Shop, program

READ = {"action": "keep", "when": {"any": [{"path": "absent", "exists": False}]}}

ACCEPTED = [
    # documents of one value, with the white space that is allowed
    *(b"null", b"true", b"false", b"0", b'""', b"[]", b"{}", b" \t\r\n5\n ", b"[ \n]", b"{\t}", b'"x"\n'),
    # numbers
    *(
        b"-0",
        b"-1",
        b"10",
        b"0.5",
        b"-0.0",
        b"1e5",
        b"1E+5",
        b"1e-5",
        b"0e0",
        b"0.0e+00",
        b"123456789012345678901234567890",
    ),
    *(
        b"1e400",
        b"-1e-400",
        b"1." + b"0" * 400,
        b"1e0000000000000000000001",
        b"[1.25e2,-0]",
        b"9007199254740993",
    ),
    # strings: escapes, characters of every length, what looks like syntax
    *(
        b'"\\"\\\\\\/\\b\\f\\n\\r\\t"',
        b'"\\u0041\\u00e9\\u4E2D"',
        b'"\\ud83d\\ude00"',
        b'"\\u0000"',
        b'"\\uFFFE\\uffff"',
    ),
    *(
        '"é中😀"'.encode(),
        '"\u2028\u2029\x7f"'.encode(),
        b'"[{]}:,"',
        b'"\\\\"',
        b'"\xf4\x8f\xbf\xbf"',
        b'" "',
        b'"//"',
    ),
    # objects and arrays
    *(
        b'{"":0}',
        b'{"a":1,"a":2}',
        b'{"a":{"a":{"a":[]}}}',
        b"[[],[[]],{}]",
        b'{"a" : 1 , "b" : [ 1 , 2 ] }',
        b'["a",null]',
    ),
    *(
        b'{"\\u0061":1}',
        b'{"\\"":1}',
        b"[" * 64 + b"]" * 64,
        b'{"a":' * 64 + b"1" + b"}" * 64,
        b"[" + b"1," * 5000 + b"1]",
    ),
]
REFUSED = [
    # nothing, too much, too little
    *(
        b" ",
        b"\n",
        b"1 2",
        b"[] []",
        b"{}}",
        b"[]]",
        b"[",
        b"{",
        b"]",
        b"}",
        b'"',
        b"[1",
        b'{"a":1',
        b'["a',
        b'{"a":"b',
        b",",
        b":",
    ),
    # arrays
    *(
        b"[,]",
        b"[1,]",
        b"[,1]",
        b"[1,,2]",
        b"[1 2]",
        b"[1:2]",
        b"[1}",
        b"[a]",
        b'["a":1]',
        b"[1],",
        b"[-]",
        b"[\x0b]",
        b"[\x0c1]",
    ),
    # objects
    *(
        b"{,}",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b'{,"a":1}',
        b'{"a":1,,"b":2}',
        b'{"a" 1}',
        b'{"a":1 "b":2}',
        b"{a:1}",
        b"{1:1}",
    ),
    *(
        b'{"a"::1}',
        b'{"a":1]',
        b"{null:1}",
        b"{'a':1}",
        b'{"a":1:2}',
        b'{"a":1}x',
        b"{[]:1}",
        b'{"a":1;}',
        b'{"a":"b"/**/}',
    ),
    # numbers
    *(
        b"01",
        b"-01",
        b"00",
        b"+1",
        b".5",
        b"1.",
        b"-.5",
        b"1.e5",
        b"1e",
        b"1e+",
        b"1e1.5",
        b"0x10",
        b"1_000",
        b"--1",
        b"- 1",
        b"1,5",
    ),
    *(
        b"NaN",
        b"nan",
        b"Infinity",
        b"-Infinity",
        b"-inf",
        b"1a",
        b"-",
        b"1.2.3",
        b"0e",
        b"2e ",
        b"1eE2",
        b"\xef\xbc\x91",
        b"0 .5",
        b"1e\xc2\xb2",
    ),
    # words
    *(
        b"nul",
        b"nulll",
        b"True",
        b"FALSE",
        b"tru",
        b"truex",
        b"undefined",
        b"none",
        b"n",
        b"[nu",
        b"fals\xe9",
    ),
    # strings
    *(
        b"'a'",
        b'"\\x41"',
        b'"\\u12"',
        b'"\\u12G4"',
        b'"\\U0041"',
        b'"\\',
        b'"\\"',
        b'"\\a"',
        b'"\\\n"',
        b'"a\nb"',
        b'"a\tb"',
        b'"\x00"',
    ),
    *(
        b'"\x1f"',
        b'"\\ "',
        b'"\\\xe9"',
        b'"a" "b"',
        b'"\\u"',
        b"`a`",
        b'"\\\x00"',
        b'\\"a\\"',
        b"abc",
        b'"\\u00 1"',
    ),
    # bytes that are no UTF-8: alone, cut, overlong, surrogates, too high
    *(
        b'"\x80"',
        b'"\xff"',
        b'"\xc3"',
        b'"\xe4\xb8"',
        b'"\xf0\x9f\x98"',
        b'"\xc0\x80"',
        b'"\xc1\xbf"',
        b'"\xe0\x80\x80"',
        b'"\xf0\x80\x80\x80"',
    ),
    *(
        b'"\xed\xa0\x80"',
        b'"\xed\xbf\xbf"',
        b'"\xf4\x90\x80\x80"',
        b'"\xf8\x88\x80\x80\x80"',
        b'"\xe9"',
        b'{"\xff":1}',
        b"\xff",
        b'["\xc3\x28"]',
    ),
    # byte order marks and other encodings
    *(
        b"\xef\xbb\xbf{}",
        b"\xef\xbb\xbf",
        b"\xff\xfe[\x00]\x00",
        "[1]".encode("utf-16-be"),
        "[1]".encode("utf-32-le"),
    ),
    # comments and further inventions
    *(
        b"/**/1",
        b"1//",
        b"#1",
        b"[1,/**/2]",
        b"<null>",
        b"@",
        b"$",
        b"*",
        b"(1)",
        b"1;",
        b"\x00",
        b"1\x00",
        b"[\xc2\xa0]",
        b"\xe2\x81\xa0[]",
    ),
    # deeper than 64 levels
    *(
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'[{"":' * 30_000,
    ),
]
EITHER = {
    b'"\\ud800"': True,
    b'"\\udc00"': True,
    b'"\\ude00\\ud83d"': True,
    b'"\\ud83d\\u0041"': True,
    b'"\\ud83dx"': True,
    b'["\\uD800\\n"]': True,
}
"""The grammar has escaped halves of a character; RFC 8259, section 8.2, leaves what comes of them to the parser."""


@pytest.mark.parametrize("document", ACCEPTED, ids=lambda document: repr(document)[:40])
def test_accepted(make: Shop, document: bytes) -> None:
    rules = make(READ)
    after = rules.one(document)
    assert after is not None
    assert after.payload == document
    json.loads(document)


@pytest.mark.parametrize("document", REFUSED, ids=lambda document: repr(document)[:40])
def test_refused(make: Shop, document: bytes) -> None:
    assert not make(READ).passes(document)


@pytest.mark.parametrize(("document", "accepted"), EITHER.items())
def test_either(make: Shop, document: bytes, accepted: bool) -> None:
    assert make(READ).passes(document) is accepted
    hidden = make({"action": "truncate", "path": "0", "length": 1}).one(b"[" + document + b"]")
    assert hidden is not None
    json.loads(hidden.payload)


# -- against Python's own ------------------------------------------------------------------------------------


def refuse(constant: str) -> None:
    raise ValueError(constant)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def python_accepts(data: bytes) -> bool:
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return depth(value) <= 64


PIECES = st.sampled_from(
    [
        *'{}[]",:\\ \n\t0123456789.eE+-abfnrtu/',
        "null",
        "true",
        "false",
        '"a"',
        "\\u00e9",
        "\\ud83d",
        "é",
        "😀",
        "\x00",
    ]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join).map(str.encode)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=600, deadline=None)
@given(data=TEXTS | st.binary(max_size=30))
def test_accepts_what_python_accepts(data: bytes) -> None:
    rules = Rules(READ)
    accepted = rules.passes(data)
    rules.close()
    assert accepted == (not data or python_accepts(data))


@settings(max_examples=200, deadline=None)
@given(value=VALUES, data=st.data())
def test_damaged_documents(value: Any, data: st.DataObject) -> None:
    document = bytearray(
        json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    )
    at = data.draw(st.integers(0, len(document)))
    document[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    rules = Rules(READ)
    accepted = rules.passes(bytes(document))
    rules.close()
    assert accepted == (not document or python_accepts(bytes(document)))


@settings(max_examples=200, deadline=None)
@given(
    value=st.dictionaries(st.sampled_from(["a", "b", "c", "é", "n.x"]), VALUES, max_size=5),
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
)
def test_a_change_is_the_same_as_in_python(
    value: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    before = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    try:
        raw = before.encode()
    except UnicodeEncodeError:
        return
    rules = Rules(
        {"action": "remove", "path": "b"},
        {"action": "redact", "path": "a.*"},
        {"action": "set", "path": "c", "to": [None, 5, "x\n"][len(value) % 3]},
        {"action": "redact", "path": "n\\.x", "with": 1.5},
    )
    after = rules.one(raw)
    rules.close()
    expected = {key: inner for key, inner in value.items() if key != "b"}
    inner = expected.get("a")
    if isinstance(inner, dict):
        expected["a"] = dict.fromkeys(inner, "***")
    elif isinstance(inner, list):
        expected["a"] = ["***"] * len(inner)
    expected["c"] = [None, 5, "x\n"][len(value) % 3]
    if "n.x" in expected:
        expected["n.x"] = 1.5
    assert after is not None
    found = json.loads(after.payload)
    assert found == expected
    assert list(found) == list(expected), "names stay in their order"
    rules = Rules({"action": "redact", "path": "nothing.here"})
    unchanged = rules.one(raw)
    rules.close()
    assert unchanged is not None
    assert unchanged.payload == raw


@settings(max_examples=300, deadline=None)
@given(
    number=st.decimals(allow_nan=False, allow_infinity=False),
    bound=st.sampled_from(["0.5", "-3", "1e300", "0"]),
)
def test_numbers_are_compared_exactly(number: Decimal, bound: str) -> None:
    rules = Rules({"action": "keep", "when": {"path": "a", "above": float(bound)}})
    assert rules.passes(f'{{"a":{number:e}}}') == (number > Decimal(bound))
    rules.close()


def test_usual_limits_are_enough_for_fifty_thousand_values() -> None:
    payload = json.dumps(list(range(50_000))).encode()
    config = json.dumps({"steps": [{"action": "redact", "path": "49999"}]}).encode()
    instance = Instance(program(), config, Limits(deadline_ms=5000), lambda key: None)
    batch = [Fields(b"t", payload)]
    answer = instance.process(encode_request(batch, 1, 1, 1), 1)
    instance.close()
    assert answer is not None
    assert decode_result(answer, batch).changes[0].payload == payload.replace(b"49999", b'"***"')
