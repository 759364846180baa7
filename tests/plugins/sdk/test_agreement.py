"""The SDKs' small JSON readers agree with one another on whatever bytes come, and never let a secret through that
another reader would find."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.sdk.test_examples import LANGUAGES, Running

SECRET = "Magdalena"

NAMES = st.sampled_from(["driver", "speed", "a", "", "é", "dri\\u0076er", 'q\\"', "driver\\n"])
NUMBERS = st.sampled_from(
    ["0", "-0", "5", "5.0", "4.999", "1e1", "5E-1", "05", "5.", ".5", "+5", "1e", "-", "1e400"]
)
LEAVES = st.one_of(
    NUMBERS,
    st.sampled_from([f'"{SECRET}"', '"x\\"y"', '"\\\\"', "true", "null", '"{"', '"]"', "nul", '"']),
    st.just(""),
)
SPACE = st.sampled_from(["", "", "", " ", "\n\t"])


def members(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    one = st.tuples(SPACE, NAMES, SPACE, inner, SPACE).map(lambda t: f'{t[0]}"{t[1]}"{t[2]}:{t[3]}{t[4]}')
    return st.lists(one, max_size=4).map(lambda parts: "{" + ",".join(parts) + "}")


VALUES = st.recursive(
    LEAVES,
    lambda inner: members(inner) | st.lists(inner, max_size=3).map(lambda p: f"[{','.join(p)}]"),
    max_leaves=8,
)
BROKEN = st.tuples(
    members(VALUES), st.integers(0, 60), st.sampled_from(["", '"', "}", "{", ",", "\\", "\x01", ":"])
).map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + 1 :])
PAYLOADS = st.one_of(
    st.tuples(SPACE, members(VALUES), SPACE).map("".join),
    BROKEN,
    VALUES,
    st.just(f'{{"driver":"{SECRET}"}} x'),
).map(str.encode) | st.binary(max_size=30)


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, dict[str, Running]]]:
    found: dict[str, dict[str, Running]] = {"mask": {}, "filter": {}}
    for language in LANGUAGES:
        with contextlib.suppress(pytest.skip.Exception):
            found["mask"][language] = Running(language, "mask", {"member": "driver", "prefix": "d-"})
            found["filter"][language] = Running(language, "filter", {"member": "speed", "at_least": 5})
    yield found
    for example in found.values():
        for one in example.values():
            one.instance.close()


def agreed(running: dict[str, Running], payloads: list[bytes]) -> list[bytes | None]:
    """What all languages make of the payloads."""
    found = {language: one.process(*payloads) for language, one in running.items()}
    first, *others = found.values()
    assert all(one == first for one in others), found
    return first


def pairs(payload: bytes) -> list[tuple[str, Any]] | None:
    """The members as Python reads them, those that stand there twice included; None where it is no object."""
    try:
        found = json.loads(payload.decode(), object_pairs_hook=list)
    except ValueError:
        return None
    is_object = payload.lstrip(b" \t\r\n").startswith(b"{")
    return found if is_object else None


@settings(max_examples=150, deadline=None)
@given(payloads=st.lists(PAYLOADS, min_size=1, max_size=20))
def test_masks_agree_and_leave_no_secret(
    running: dict[str, dict[str, Running]], payloads: list[bytes]
) -> None:
    for before, after in zip(payloads, agreed(running["mask"], payloads), strict=True):
        found = pairs(before)
        if found is None:
            continue
        values = [value for name, value in found if name == "driver"]
        if after is not None:
            names = [name for name, _ in found]
            left = dict(pairs(after) or [])
            assert names == [name for name, _ in pairs(after) or []]
            assert not values or (len(values) == 1 and left["driver"].startswith("d-"))
        else:
            raw = before.decode()
            assert len(values) > 1 or "\\" in raw or len(raw) > 256


@settings(max_examples=150, deadline=None)
@given(payloads=st.lists(PAYLOADS, min_size=1, max_size=20))
def test_filters_agree_with_python(running: dict[str, dict[str, Running]], payloads: list[bytes]) -> None:
    for before, after in zip(payloads, agreed(running["filter"], payloads), strict=True):
        found = pairs(before)
        if found is None or "\\" in before.decode():
            continue
        values = [value for name, value in found if name == "speed"]
        wanted = len(values) == 1 and type(values[0]) in (int, float) and values[0] >= 5
        assert (after is not None) == wanted
