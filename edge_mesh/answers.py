"""Answers in parts: envelopes small enough to be sent one by one, and put together again; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_mesh import envelope

_PART_BYTES = 256 << 10


def parts(node: str, records: Sequence[bytes], now: float) -> Iterator[bytes]:
    """The envelopes of an answer: at least one, numbered, each saying how many there are."""
    groups: list[list[bytes]] = [[]]
    size = 0
    for record in records:
        if size >= _PART_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(record)
        size += len(record)
    for number, group in enumerate(groups, 1):
        yield envelope.encode(envelope.ANSWER, node, group, now, after=len(groups), first=number)


def is_complete(headers: Sequence[envelope.Header]) -> bool:
    """Whether these are all parts of one answer."""
    return bool(headers) and {header.first for header in headers} == set(range(1, headers[0].after + 1))
