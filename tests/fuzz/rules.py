"""Fuzzing the built-in rules as they are shipped: `python -m tests.fuzz.rules --seconds 600`.

Payloads and configurations are mutated at random. An input that makes the module use an amount of fuel that none did
before has taken a new way, and is mutated further. The contract: no call traps, a mistake in a configuration is told,
what is dropped or passed is what Python's own decoder says, and what is masked can be read and holds no secret.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import cbor2
import msgpack

from plugins.builtin import build
from plugins.host.engine import Instance, Program
from plugins.host.frame import PASS, REPLACE, Fields, decode_result, encode_request
from plugins.host.limits import Limits
from plugins.host.reasons import ModuleRefused

SECRET = "S3cret"
STEPS: list[dict[str, Any]] = [
    {"action": "redact", "path": "**.a"},
    {"action": "remove", "paths": ["b", "c.*.b", "0"]},
    {"action": "hash", "path": "d", "key": "00112233445566778899aabbccddeeff"},
    {"action": "truncate", "path": "*.e", "length": 3},
    {"action": "round", "path": "**.n", "to": 0.25},
    {"action": "set", "path": "new.x", "to": "{path:f}/{0}"},
    {"action": "patterns", "path": "g"},
    {"action": "search", "path": "$", "texts": ["x", "é"], "glob": "ab*c"},
    {"action": "pseudonymise", "path": "h", "key": "00112233445566778899aabbccddeeff"},
    {"action": "date", "path": "t", "to": "day"},
    {"action": "grid", "latitude": "lat", "longitude": "lon", "metres": 1000},
    {"action": "emit", "topic": "t/{path:f}", "payload": {"all": ["{path:n}", "{time}"]}},
    {"action": "deadband", "path": "n", "change": 1, "by": ["f"], "when": {"path": "n", "above": 1000}},
    {"action": "unique", "within": "1s", "paths": ["u"], "when": {"path": "u", "exists": True}},
    {
        "action": "aggregate",
        "window": "1s",
        "values": {"**.n": ["count", "sum", "mean"]},
        "topic": "{topic}/x",
        "by": ["f"],
        "keep": True,
    },
    {"action": "properties", "remove": ["user_property", "correlation_data"]},
]
TEXT_STEPS: list[dict[str, Any]] = [
    {"action": "patterns"},
    {"action": "search", "texts": ["x", "é"], "glob": "ab*c"},
    {"action": "truncate", "length": 300, "when": {"path": "$", "contains": "1"}},
    {"action": "unique", "within": "1s", "when": {"path": "$", "starts_with": "{"}},
    {"action": "properties", "keep": ["content_type"]},
]
"""A text has no values."""
SAMPLE = {
    "a": SECRET,
    "b": [1, {"b": 2}],
    "c": {"x": {"b": SECRET, "e": "héllo"}},
    "d": SECRET,
    "n": 52.520008,
    "f": "site",
    "g": "card 4111 1111 1111 1111, +49 170 1234567",
    "h": "WDB9066331S123456",
    "t": "2026-01-01T10:00:00Z",
    "lat": 52.5,
    "lon": 13.4,
    "u": -1.5e300,
    "list": [True, None, 2**40, ""],
    "deep": [[[{"a": {"n": 1}}]]],
}
FORMATS = ("json", "cbor", "msgpack", "text", "auto")
PIECES = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"\\",
        b"\\u00e9",
        b"\\ud83d",
        b"-",
        b"0",
        b"1e9",
        b".",
        b"e",
    ),
    *(b" ", b"\xff", b"\x00", b"\x80", b"\xa1", b"\x9f", b"\xbf", b"\xfb", b"\xd9", b"\xdf", b"\xc0"),
    *(b"\x7f", b"\x1f", "é😀".encode(), b'"a":'),
    *(sign.encode() for sign in "\uff14\uff20\u00a0\u200b\u2013\u0661"),
]


LIMITS = Limits(deadline_ms=5000)
"""The usual fuel, and time enough on a machine that has others to do."""


class Broken(AssertionError):
    """An input that breaks the contract."""


@cache
def program() -> Program:
    return Program(build.MODULE.read_bytes())


def samples() -> dict[str, list[bytes]]:
    """What mutation begins with."""
    written = {
        "json": json.dumps(SAMPLE).encode(),
        "cbor": cbor2.dumps(SAMPLE),
        "msgpack": msgpack.packb(SAMPLE),
    }
    return {name: [written[name]] if name in written else list(written.values()) for name in FORMATS}


def mutate(chance: random.Random, data: bytes) -> bytes:
    """A few small changes."""
    mutated = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randint(0, len(mutated))
        match chance.randint(0, 4):
            case 0 if at < len(mutated):
                mutated[at] ^= 1 << chance.randint(0, 7)
            case 1:
                mutated[at:at] = chance.choice(PIECES)
            case 2:
                del mutated[at : at + chance.randint(1, 8)]
            case 3:
                other = chance.randint(0, len(mutated))
                mutated[at:at] = mutated[other : other + chance.randint(1, 30)]
            case _:
                mutated[at : at + 1] = chance.choice(PIECES) * chance.choice((1, 1, 2, 70))
    return bytes(mutated[:4000])


# -- the contract --------------------------------------------------------------------------------------------


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def load_json(data: bytes) -> Any:
    """The document; ValueError where Python takes it for none, or it is deep."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse, parse_int=str, parse_float=str)
    except RecursionError:
        raise ValueError from None
    if _depth(value) > 64:
        raise ValueError
    return value


def reads(data: bytes, load: Callable[[bytes], Any]) -> bool:
    """Whether a decoder takes the bytes for its format."""
    try:
        load(data)
    except ValueError:
        return False
    return True


def redacted(value: Any) -> Any:
    """What the first of the steps makes of a document."""
    if isinstance(value, dict):
        return {key: "***" if key == "a" else redacted(inner) for key, inner in value.items()}
    return [redacted(inner) for inner in value] if isinstance(value, list) else value


class Target:
    """The rules with one format; ``feed`` is one message."""

    def __init__(self, name: str) -> None:
        self._name = name
        steps = TEXT_STEPS if name == "text" else STEPS
        self._instance, self._again = (
            Instance(
                program(), json.dumps({"format": name, "steps": some}).encode(), LIMITS, lambda key: None
            )
            for some in (steps, steps[:1])
        )

    def feed(self, payload: bytes) -> int:
        """The fuel that it took; Broken, or a Trap, where the contract is broken."""
        after = self._run(self._instance, payload)
        fuel = self._instance.fuel_used()
        if payload:
            self._check(payload, after)
        return fuel

    def _run(self, instance: Instance, payload: bytes) -> bytes | None:
        batch = [Fields(b"a/b", payload, properties=payload[:100])]
        answer = instance.process(encode_request(batch, time.time_ns(), 1, 1), 1)
        if answer is None:
            return payload
        verdicts, changes, _ = decode_result(answer, batch)
        return payload if verdicts[0] == PASS else changes[0].payload if verdicts[0] == REPLACE else None

    def _check(self, payload: bytes, after: bytes | None) -> None:
        once = self._run(self._again, payload)
        if self._name == "json":
            self._check_json(payload, once)
        if after is not None and self._name != "auto" and self._run(self._again, after) is None:
            raise Broken(f"became what it does not read itself: {after!r}")

    def _check_json(self, payload: bytes, once: bytes | None) -> None:
        if (once is not None) != reads(payload, load_json):
            raise Broken(f"read where it should not be, or the other way round: {payload!r}")
        if once is not None and load_json(once) != redacted(load_json(payload)):
            raise Broken(f"{payload!r} became {once!r}")

    def close(self) -> None:
        self._instance.close()
        self._again.close()


def feed_configuration(text: bytes) -> int:
    """Any bytes are a configuration, or refused with words."""
    try:
        instance = Instance(program(), text, LIMITS, lambda key: None)
    except ModuleRefused as refused:
        if "geomq_init failed" in str(refused) or not str(refused).strip():
            raise Broken(f"not told what is wrong: {refused}") from None
        return hash(str(refused)[:30])
    instance.close()
    return 0


# -- the search ----------------------------------------------------------------------------------------------


class Search:
    """Mutates what took new ways."""

    def __init__(self, seeds: list[bytes], feed: Callable[[bytes], int], chance: random.Random) -> None:
        self._kept = list(seeds)
        self._feed = feed
        self._chance = chance
        self._seen: set[int] = set()

    def step(self) -> bytes:
        """Feed one input, and return it."""
        data = mutate(self._chance, self._chance.choice(self._kept))
        found = self._feed(data)
        if found not in self._seen and len(self._kept) < 20_000:
            self._seen.add(found)
            self._kept.append(data)
        return data

    def __len__(self) -> int:
        return len(self._kept)


def searches(seed: int) -> Iterator[tuple[str, Search]]:
    """One for each format, and one for configurations."""
    for name, seeds in samples().items():
        yield name, Search(seeds, Target(name).feed, random.Random(f"{seed} {name}"))
    whole = [json.dumps({"steps": [step]}).encode() for step in STEPS + TEXT_STEPS] + [
        json.dumps({"steps": STEPS}).encode()
    ]
    yield "configuration", Search(whole, feed_configuration, random.Random(f"{seed} configuration"))


def run(is_over: Callable[[int], bool], seed: int) -> dict[str, int]:
    """Search until it is over; how many ways each search has found. Whatever breaks the contract is raised."""
    all_searches = dict(searches(seed))
    rounds = 0
    while not is_over(rounds):
        for name, search in all_searches.items():
            try:
                search.step()
            except Exception as error:
                error.add_note(f"searching {name} with seed {seed}, in round {rounds}")
                raise
        rounds += 1
    return {name: len(search) for name, search in all_searches.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Look for input that breaks the built-in rules.")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    found = run(lambda _: time.monotonic() > until, options.seed)
    print(f"seed {options.seed}: " + ", ".join(f"{name}: {count} ways" for name, count in found.items()))


if __name__ == "__main__":
    sys.exit(main())
