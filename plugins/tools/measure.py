"""How fast a rule is, in the host that a node has."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from plugins.host.entry import Entry, Failed, Outcome
from plugins.host.frame import Fields
from plugins.host.pipeline import Rule

SIZES = (1, 64, 512)
TELEMETRY = [
    Fields(
        b"vehicles/%d/telemetry" % number,
        b'{"vehicle":"eu-%d","driver":{"name":"Magdalena","phone":"+41 44 668 18 00"},"speed":%d.5,'
        b'"position":{"latitude":46.9481,"longitude":7.4474},"temperature":20.25,"battery":97,'
        b'"time":"2026-01-31T12:00:00Z"}' % (number, number),
        b"",
        b"vehicle-%d" % number,
        1,
    )
    for number in range(8)
]
"""About 200 bytes each."""


class Measured(NamedTuple):
    """Batches of one size, one after the other on one thread."""

    size: int
    per_second: float
    """Messages."""
    microseconds: float
    """For each message."""
    fuel: float
    """For each message."""
    share: float
    """Of the fuel that a batch of this size may take."""
    rejected: int
    """Of the messages of a batch."""


class MeasureError(Exception):
    """A rule fails: how fast it does that is of no use."""


def measure(entry: Entry, messages: Sequence[Fields], seconds: float) -> Iterator[Measured]:
    """Measure batches of each size for so many seconds; ``messages`` are handed over again and again.

    MeasureError where a call fails.
    """
    for size in SIZES:
        rule = Rule(entry)
        try:
            yield _measured(rule, list(itertools.islice(itertools.cycle(messages), size)), seconds)
        finally:
            rule.close()


def _measured(rule: Rule, batch: list[Fields], seconds: float) -> Measured:
    now = time.time()
    rejected = len(_check(rule, rule.run(batch, now)))
    before = dict(rule.counts)
    batches, took = 0, 0.0
    started = time.perf_counter()
    while took < seconds:
        # A clock that goes on, as a node's: windows close, lifetimes end.
        _check(rule, rule.run(batch, now + took))
        batches += 1
        took = time.perf_counter() - started
    count = batches * len(batch)
    limits = rule.entry.limits
    fuel = (rule.counts["fuel"] - before["fuel"]) / count
    allowed = limits.fuel_base / len(batch) + limits.fuel_per_message
    return Measured(
        len(batch),
        count / took,
        took / count * 1e6,
        fuel,
        fuel / allowed,
        rejected,
    )


def _check(rule: Rule, outcome: Outcome) -> list[Failed]:
    """The messages that the module rejects; MeasureError where it failed on them."""
    broken = [one for one in outcome.failed if rule.last_error and one.reason.gist == rule.last_error]
    if broken:
        count = len(outcome.messages)
        raise MeasureError(f"fails for {len(broken)} of a batch of {count}: {broken[0].reason.text}")
    return outcome.failed
