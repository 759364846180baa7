"""What a rule costs in the host that a node has: the built-in rules, each language of the SDK, and plain Python.

All of them mask the same three members of the same messages (`tests/plugins/sdk/redact`,
`tests/plugins/sdk/test_redact.py` proves it). CPU is that of the thread, and has the host's part in it: frames written
and read, fuel, deadlines.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from plugins.host.entry import INGRESS, Entry
from plugins.host.frame import Fields
from plugins.host.pipeline import Rule
from plugins.tools.measure import SIZES
from plugins.tools.scaffold import LANGUAGES
from tests.plugins.sdk.toolchains import built

SECONDS = 0.2
MEMBERS = ("vehicle", "driver", "phone")
TELEMETRY = [
    Fields(
        b"vehicles/%d/telemetry" % number,
        b'{"vehicle":"eu-%d","driver":"Magdalena","phone":"+41 44 668 18 00","speed":%d.5,'
        b'"position":{"latitude":46.9481,"longitude":7.4474},"temperature":20.25,"battery":97,'
        b'"ignition":true,"time":"2026-01-31T12:00:00Z"}' % (number, number),
        b"",
        b"vehicle-%d" % number,
        1,
    )
    for number in range(8)
]
"""About 200 bytes each."""
BUILT_IN = Entry(
    "built-in", INGRESS, "rules", ("#",), {"steps": [{"action": "redact", "paths": list(MEMBERS)}]}
)
ALONE_US, BATCHED_US = 20.0, 3.0
"""DESIGN.md's budgets for the built-in mask: added to a message alone, CPU of a message in batches."""

Run = Callable[[list[Fields]], object]


class Cost(NamedTuple):
    """What one mask takes."""

    microseconds: dict[int, float]
    """CPU of a message, by the size of the batch."""
    fuel: float | None = None
    """Of a message, in the largest batch."""
    module_bytes: int | None = None


def redacted(payload: bytes) -> bytes:
    """The mask, as one would write it in Python."""
    document = json.loads(payload)
    for name in MEMBERS:
        if name in document:
            document[name] = "***"
    return json.dumps(document, separators=(",", ":")).encode()


def python(batch: list[Fields]) -> list[Fields]:
    """A batch masked without host and module."""
    return [message._replace(payload=redacted(message.payload)) for message in batch]


def measure_languages(rounds: int) -> list[str]:
    """The table, and the budgets. A language whose compiler is missing has the reason in its row."""
    built_in = _measure_rule(BUILT_IN, rounds)
    lines = [*HEAD, _row("built-in rules", built_in)]
    lines += [_language_row(name, rounds) for name in LANGUAGES]
    lines.append(_row("plain Python, without a host", _measure(python, rounds)))
    return [*lines, *_budgets(built_in)]


def _language_row(name: str, rounds: int) -> str:
    """The text format has no library to read JSON with: its example shows what is the host's part."""
    title, example = LANGUAGES[name].title, "redact"
    if name == "wat":
        title, example = f"{title}, a filter by size that passes all", "empty"
    try:
        module = built(name, example)
    except pytest.skip.Exception as missing:
        return f"| {title} | not measured: {missing.msg} | | | | |"
    return _row(title, _measure_rule(Entry(name, INGRESS, str(module), ("#",)), rounds))


def _measure_rule(entry: Entry, rounds: int) -> Cost:
    rule = Rule(entry)
    assert entry.path is not None
    try:
        found = _measure(lambda batch: rule.run(batch, time.time()), rounds)
        if rule.counts["failed"]:
            raise SystemExit(f"the rule {entry.name} fails: {rule.last_error}")
        # Over several batches, for what collects garbage does not take the same for each.
        before, batch, runs = rule.counts["fuel"], _batch(SIZES[-1]), 20
        for _ in range(runs):
            rule.run(batch, time.time())
        fuel = (rule.counts["fuel"] - before) / len(batch) / runs
    finally:
        rule.close()
    return found._replace(fuel=fuel, module_bytes=entry.path.stat().st_size)


def _batch(size: int) -> list[Fields]:
    return list(itertools.islice(itertools.cycle(TELEMETRY), size))


def _measure(run: Run, rounds: int) -> Cost:
    """The median of several rounds, in each of which the sizes take turns."""
    found = [{size: _once(run, size) for size in SIZES} for _ in range(rounds)]
    return Cost({size: statistics.median(one[size] for one in found) for size in SIZES})


def _once(run: Run, size: int) -> float:
    """Microseconds of CPU for each message."""
    batch = _batch(size)
    run(batch)
    messages, before, took = 0, time.thread_time(), 0.0
    while took < SECONDS:
        for _ in range(max(1, 256 // size)):  # asking for the time costs, too
            run(batch)
            messages += size
        took = time.thread_time() - before
    return took / messages * 1e6


HEAD = [
    "",
    "The same mask of three members, on about 200 bytes of JSON, in the built-in rules, in each language of the SDK",
    "and in plain Python: microseconds of CPU for each message at 1, 64 and 512 messages in a batch, the host's part",
    "included. Fuel is that of a message. Each module comes from the SDK's own Makefile.",
    "",
    "| mask | 1 | 64 | 512 | fuel | module |",
    "| --- | --- | --- | --- | --- | --- |",
]


def _row(title: str, cost: Cost) -> str:
    cells = [f"{cost.microseconds[size]:.2f}" for size in SIZES]
    cells.append("" if cost.fuel is None else f"{cost.fuel:,.0f}")
    cells.append("" if cost.module_bytes is None else f"{cost.module_bytes / 1024:.1f} KB")
    return f"| {title} | {' | '.join(cells)} |"


def _budgets(built_in: Cost) -> Iterator[str]:
    alone, batched = built_in.microseconds[1], max(built_in.microseconds[size] for size in SIZES[1:])
    yield ""
    yield "| built-in mask, host and module | CPU | budget |"
    yield "| --- | --- | --- |"
    for title, figure, budget in (
        ("alone", alone, ALONE_US),
        ("in batches of 64 and 512", batched, BATCHED_US),
    ):
        yield f"| {title} | {figure:.2f} us | at most {budget:g} us: {verdict(figure, budget)} |"


def verdict(figure: float, budget: float) -> str:
    """Whether it is within its budget."""
    return "met" if figure <= budget else "missed"


if __name__ == "__main__":
    print("\n".join(measure_languages(rounds=1)))
