"""CBOR and MessagePack as people are shown them, beside the libraries that write them."""

from __future__ import annotations

import json
import math
from typing import Any

import cbor2
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.tools.binary import read, written

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
CONTAINERS = st.lists(VALUES, max_size=20) | st.dictionaries(st.text(), VALUES, max_size=20)


def as_json(value: Any) -> Any:
    """What the notation means where it has nothing but JSON's values; integers and floats are apart in it."""
    return json.loads(written(value), parse_constant=float)


@settings(deadline=None)
@given(CONTAINERS)
def test_what_libraries_write_is_read(value: Any) -> None:
    """Or not read where it could be of both formats, as 0x80 is an empty map of one and an empty array of the other."""
    for name, payload in (("CBOR", cbor2.dumps(value)), ("MessagePack", msgpack.packb(value))):
        found = read(payload)
        if found is not None and found[0] == name:
            assert as_json(found[1]) == value
        else:
            assert found is None or len(payload) < 40


@pytest.mark.parametrize(
    ("payload", "notation"),
    [
        (
            cbor2.dumps({"a": 1.1, "b": -7, "c": b"\x01\xff", "d": None}),
            "{'a': 1.1, 'b': -7, 'c': h'01ff', 'd': null}",
        ),
        (bytes.fromhex("a16161fa3dcccccd"), "{'a': 0.1}"),
        (bytes.fromhex("a16161f93e00"), "{'a': 1.5}"),
        (bytes.fromhex("a16161f97e00"), "{'a': NaN}"),
        (bytes.fromhex("a16161f9fc00"), "{'a': -Infinity}"),
        (bytes.fromhex("a16161f7"), "{'a': undefined}"),
        (bytes.fromhex("a16161f8ff"), "{'a': simple(255)}"),
        (
            bytes.fromhex("a16161c074323032362d30312d30315430303a30303a30305a"),
            "{'a': 0('2026-01-01T00:00:00Z')}",
        ),
        (bytes.fromhex("a16161c48221196ab3"), "{'a': 4([-2, 27315])}"),
        (bytes.fromhex("bf61617f616261 63ff61625f4101ffff"), "{'a': 'bc', 'b': h'01'}"),
        (bytes.fromhex("9f01820203ff"), "[1, [2, 3]]"),
        (bytes.fromhex("a2016161416202"), "{'1': 'a', 'h\\'62\\'': 2}"),
        (msgpack.packb({"a": msgpack.ExtType(5, b"xy"), 7: 1.5}), "{'a': ext(5, h'7879'), '7': 1.5}"),
        (
            msgpack.packb({"a": "x" * 40, "b": b"\x00", "c": -1, "d": -1000}),
            f"{{'a': '{'x' * 40}', 'b': h'00', 'c': -1, 'd': -1000}}",
        ),
        (msgpack.packb([0.1] * 3, use_single_float=True), "[0.1, 0.1, 0.1]"),
        (msgpack.packb(list(range(20))), str(list(range(20)))),
    ],
)
def test_notation(payload: bytes, notation: str) -> None:
    found = read(payload)
    assert found is not None
    assert written(found[1]).replace('"', "'") == notation.replace("\\'", "'")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"\x80",
        cbor2.dumps({"a": 1}) + b"\x00",
        cbor2.dumps({"a": 1})[:-1],
        bytes.fromhex("a2616101616102"),
        bytes.fromhex("a2613101 0102"),
        bytes.fromhex("a161617fff01"),
        bytes.fromhex("a161615f6161ff"),
        bytes.fromhex("a16161ff"),
        bytes.fromhex("bf6161ff"),
        bytes.fromhex("a161611c"),
        b"\x81" * 100_000,
        cbor2.dumps("text"),
    ],
)
def test_what_is_of_no_format_or_of_both_is_not_read(payload: bytes) -> None:
    assert read(payload) is None


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_survived(payload: bytes) -> None:
    found = read(payload)
    assert found is None or isinstance(written(found[1]), str)


def test_singles_are_as_short_as_they_can_be() -> None:
    for number in (math.pi, 1e30, 16777217.0, 5.5e-40):
        found = read(msgpack.packb({"a": number}, use_single_float=True))
        assert found is not None
        assert len(written(found[1])) <= len('{"a": 0.123456789e-40}')
