"""What is kept back from nodes that ask for it because rules fail; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set

from broker.ports import Failure

_MOST_REASONS = 10
"""For which it is told that messages are withheld."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
"""Seconds between two attempts at messages on which rules fail, whoever asks for them."""


def in_words(failures: Counter[Failure]) -> Iterator[str]:
    """What is withheld because rules failed; what a rule that works drops is nobody's business."""
    for (rule, reason), count in failures.most_common(_MOST_REASONS):
        yield f"rule {rule} withholds {count} {'message' if count == 1 else 'messages'}: {reason}"
    others = failures.total() - sum(count for _, count in failures.most_common(_MOST_REASONS))
    if others:
        yield f"{others} more are withheld for other reasons"


class Withheld:
    """The topics of retained messages of which other nodes have not been told because rules failed on them.

    ``now`` is seconds of a clock that only goes forward.
    """

    def __init__(self) -> None:
        self._owed: dict[str, set[str]] = {}
        """By node."""
        self._why: dict[str, Failure] = {}
        """By topic, as it was when it was tried last."""
        self._pause = _FIRST_PAUSE
        self._try_at = 0.0

    def __len__(self) -> int:
        return len(set().union(*self._owed.values()))

    def met(self, node: str, failed: Mapping[str, Failure], now: float) -> None:
        """A node was told all retained messages, but for those on which rules failed."""
        self._owed[node] = set(failed)
        self._note(failed, now)

    def to_try(self, node: str, now: float) -> Set[str]:
        """The topics that a node may be told of now: that rules fail is not tried again and again."""
        owed = self._owed.get(node, set())
        return owed - self._why.keys() if now < self._try_at else set(owed)

    def tried(self, node: str, topics: Set[str], failed: Mapping[str, Failure], now: float) -> None:
        """A node was told of topics, but for those on which rules failed."""
        owed = self._owed.setdefault(node, set())
        owed -= topics - failed.keys()
        for topic in topics:
            self._why.pop(topic, None)
        self._note(failed, now)

    def _note(self, failed: Mapping[str, Failure], now: float) -> None:
        if failed:
            self._try_at = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        elif now >= self._try_at:
            self._pause = _FIRST_PAUSE
        self._why.update(failed)
        self._tidy()

    def keep_nodes(self, is_known: Callable[[str], bool]) -> None:
        """Nothing is owed to nodes that are not known any more."""
        self._owed = {node: topics for node, topics in self._owed.items() if is_known(node)}
        self._tidy()

    def _tidy(self) -> None:
        self._owed = {node: topics for node, topics in self._owed.items() if topics}
        owed = set().union(*self._owed.values())
        self._why = {topic: why for topic, why in self._why.items() if topic in owed}

    def failures(self, node: str) -> Counter[Failure]:
        """Why a node was not told of messages."""
        return Counter(self._why[topic] for topic in self._owed.get(node, ()) if topic in self._why)
