"""What a mesh hands over, message by message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.message import Message, Run


def one_by_one(batch: Iterable[Message | Run]) -> Iterator[Message]:
    """Messages, and those of runs."""
    for item in batch:
        if isinstance(item, Run):
            yield from item.messages()
        else:
            yield item
