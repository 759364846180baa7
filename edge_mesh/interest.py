"""Which topics a node wants: told as a versioned set of filters, heard with gaps noticed; pure.

Filters that another one covers are left out: a node that holds ``a/#`` and ``a/b`` tells only ``a/#``. Past a
bound filters are widened to prefixes. Filters that begin with ``$`` never travel: what they name is each
node's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from edge_mesh.filter_set import DIGESTS, FilterSet, bare_filter, digest, is_travelling
from edge_mesh.interest_change import Change, Delta, InterestError, decode_change
from edge_mesh.widening import widen

__all__ = [
    "MAX_FILTERS",
    "Change",
    "FilterSet",
    "InterestError",
    "LocalInterest",
    "RemoteInterest",
    "bare_filter",
    "decode_change",
    "is_travelling",
]

MAX_FILTERS = 10_000
_EARLY_LETTERS = 1 << 20
"""Letters of the filters in changes that wait for the snapshot that they build upon."""
_EARLY_CHANGES = 1000


class LocalInterest:
    """What this node's sessions hold, and what of it is told: never more than ``max_filters``.

    Past that, filters are widened until a sixteenth of the bound is free, a quarter where that takes no
    shorter prefixes; they are narrowed again only so far that half of it stays free. In between lie as many
    changes as pay for looking at all that is told, and what hovers at the bound does not flap.
    """

    def __init__(self, incarnation: int, max_filters: int = MAX_FILTERS) -> None:
        self.incarnation = incarnation
        self.version = 0
        self.digest = 0
        """Of what has been told up to the version."""
        self._bound(max_filters)
        self._held: set[str] = set()
        self._holders: dict[str, int] = {}
        # What is held, and the widened filters: what is told are those of it that no other one covers.
        self._all = FilterSet()
        self._told = FilterSet()
        # One that another covers stays, for the day when that one goes. First whose turn to be narrowed is next.
        self._widened: dict[str, None] = {}
        self._removals = 0
        self._delta = Delta()

    def __len__(self) -> int:
        return len(self._told)

    def add(self, topic_filter: str) -> bool:
        """A filter is held now; True when there is something to tell."""
        bare = bare_filter(topic_filter)
        if topic_filter in self._held or not is_travelling(bare):
            return False
        self._held.add(topic_filter)
        self._holders[bare] = self._holders.get(bare, 0) + 1
        if not self._all.add(bare) or self._told.covers(bare):
            return False
        self._tell(bare)
        self._keep_bound()
        return self.changed

    def remove(self, topic_filter: str) -> bool:
        """A filter is held no longer; True when there is something to tell."""
        if topic_filter not in self._held:
            return False
        self._held.discard(topic_filter)
        bare = bare_filter(topic_filter)
        self._holders[bare] -= 1
        if self._holders[bare]:
            return False
        del self._holders[bare]
        if bare not in self._widened:
            self._retire(bare)
        if self._widened:
            self._narrow(bare)
        self._keep_bound()
        return self.changed

    def set_bound(self, max_filters: int) -> bool:
        """Tell no more than so many from now on; True when there is something to tell."""
        self._bound(max_filters)
        self._keep_bound()
        # What hovers at the bound is no danger here: operators do not.
        self._narrow_some(len(self._all), self._most - self._least_room)
        return self.changed

    def _bound(self, max_filters: int) -> None:
        if max_filters < 1:
            raise ValueError("max_filters: at least one filter has to be told")
        self._most = max_filters
        self._least_room = max_filters // 16
        self._room = max_filters // 4
        self._narrowed_to = max_filters // 2

    @property
    def changed(self) -> bool:
        """Whether there is something that has not been told."""
        return bool(self._delta)

    def take_change(self) -> Change:
        """The next version: what has changed since the last call, or as much of it as goes into one message.

        What is added goes before what is removed, so that nothing is missing in between.
        """
        self.version += 1
        added, removed = self._delta.take()
        self.digest = (self.digest + digest(added) - digest(removed)) % DIGESTS
        return Change(self.incarnation, self.version, added, removed)

    def snapshot(self) -> Change:
        """Everything that has been told, as one change from nothing."""
        told = tuple(item for item in self._told if item not in self._delta.added)
        return Change(self.incarnation, self.version, told + tuple(self._delta.removed), ())

    # -- widening and narrowing ----------------------------------------------------------------------------

    def _keep_bound(self) -> None:
        beyond = len(self._told) - self._most
        if beyond <= 0:
            return
        for wide in widen(self._told, beyond + self._least_room, beyond + self._room):
            # Two of them may overlap: `+/b/#` covers `a/b/#`.
            if not self._told.covers(wide):
                self._enforce(wide)
        if len(self._told) > self._most:
            self._enforce("#")

    def _enforce(self, wide: str) -> None:
        self._widened[wide] = None
        self._all.add(wide)
        self._tell(wide)

    def _narrow(self, removed: str) -> None:
        """A held filter is gone: tell more exactly what there is room for now."""
        for wide in list(self._all.covering(removed)):
            if wide in self._widened and len(self._beneath(wide, 2)) < 2:
                self._release(wide)
        self._removals += 1
        if len(self._holders) <= self._narrowed_to or self._removals > self._most // 8:
            self._removals = 0
            self._narrow_some(self._most, self._narrowed_to)

    def _narrow_some(self, steps: int, narrowed_to: int) -> None:
        """Narrow until so many are told, looking at no more than ``steps`` filters; the next call goes on there."""
        if len(self._holders) <= narrowed_to:
            for wide in list(self._widened):
                self._release(wide)
            return
        for wide in list(self._widened):
            room = narrowed_to - len(self._told)
            if room <= 0 or steps <= 0:
                break
            beneath = self._beneath(wide, room + 2) if wide in self._told else []
            steps -= 1 + len(beneath)
            if beneath and len(beneath) - 1 <= room:
                self._release(wide)
            else:
                del self._widened[wide]
                self._widened[wide] = None

    def _beneath(self, wide: str, most: int) -> list[str]:
        """What would be told without a widened filter; no more than ``most``."""
        return list(islice(self._all.covered_by(wide), most))

    def _release(self, wide: str) -> None:
        """Widen no longer."""
        del self._widened[wide]
        if wide not in self._holders:
            self._retire(wide)

    def _retire(self, topic_filter: str) -> None:
        """Take a filter out of force, and tell what only it covered."""
        self._all.discard(topic_filter)
        if not self._told.discard(topic_filter):
            return
        self._delta.remove(topic_filter)
        for covered in self._all.covered_by(topic_filter):
            if not self._all.covers(covered):
                self._told.add(covered)
                self._delta.add(covered)

    def _tell(self, topic_filter: str) -> None:
        """Tell a filter, and no longer what it covers."""
        for covered in self._told.prune(topic_filter):
            self._delta.remove(covered)
        self._told.add(topic_filter)
        self._delta.add(topic_filter)


class RemoteInterest:
    """What another node told, as far as it is known here."""

    def __init__(self, topic_filters: Iterable[str] = ()) -> None:
        self.incarnation = 0
        self.version = 0
        self.digest = 0
        self._filters = FilterSet(topic_filters)
        self._early = _EarlyChanges()

    def __len__(self) -> int:
        return len(self._filters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._filters)

    def matches(self, topic: str) -> bool:
        """Whether the node wants the topic."""
        return self._filters.matches(topic)

    def is_current(self, incarnation: int, version: int) -> bool:
        """Whether nothing is missing up to this version."""
        return self.incarnation == incarnation and self.version >= version

    def differs(self, incarnation: int, version: int, expected: int) -> bool:
        """Whether this version is the one that is known here, and known wrongly: with another digest."""
        return (self.incarnation, self.version) == (incarnation, version) and self.digest != expected

    def apply_snapshot(self, snapshot: Change) -> tuple[list[str], list[str]]:
        """(added, removed): what has to change here to know what the snapshot says.

        Changes that came before it and follow it are applied, too. An older snapshot than what is known
        changes nothing.
        """
        if self.incarnation == snapshot.incarnation and self.version > snapshot.version:
            return [], []
        before = set(self._filters)
        self._filters = FilterSet(snapshot.added)
        self.incarnation = snapshot.incarnation
        self.version = snapshot.version
        self.digest = digest(self._filters)
        self._apply_early(Delta())
        after = set(self._filters)
        return list(after - before), list(before - after)

    def apply(self, change: Change) -> tuple[list[str], list[str]] | None:
        """(added, removed), or None where a change before this one is missing: ask for a snapshot.

        Until it comes the change is kept, and applied in its turn.
        """
        if self.is_current(change.incarnation, change.version):
            return [], []
        if change.incarnation != self.incarnation or change.version != self.version + 1:
            self._early.keep(change)
            return None
        delta = Delta()
        self._apply_next(change, delta)
        self._apply_early(delta)
        return list(delta.added), list(delta.removed)

    def _apply_early(self, delta: Delta) -> None:
        while (change := self._early.take(self.incarnation, self.version + 1)) is not None:
            self._apply_next(change, delta)

    def _apply_next(self, change: Change, delta: Delta) -> None:
        self.version = change.version
        added = [topic_filter for topic_filter in change.added if self._filters.add(topic_filter)]
        removed = [topic_filter for topic_filter in change.removed if self._filters.discard(topic_filter)]
        self.digest = (self.digest + digest(added) - digest(removed)) % DIGESTS
        for topic_filter in added:
            delta.add(topic_filter)
        for topic_filter in removed:
            delta.remove(topic_filter)


class _EarlyChanges:
    """Changes of one life of a node that came before those that they follow. What is too much is not kept.

    Nothing is lost with it: the snapshot that was asked for is newer, or the next ping shows the gap.
    """

    def __init__(self) -> None:
        self._incarnation = 0
        self._changes: dict[int, Change] = {}
        self._letters = 0

    def keep(self, change: Change) -> None:
        """Only those of the incarnation that was heard last are kept."""
        if change.incarnation != self._incarnation:
            self._incarnation = change.incarnation
            self._changes.clear()
            self._letters = 0
        if (
            change.version not in self._changes
            and len(self._changes) < _EARLY_CHANGES
            and self._letters + change.letters <= _EARLY_LETTERS
        ):
            self._changes[change.version] = change
            self._letters += change.letters

    def take(self, incarnation: int, version: int) -> Change | None:
        """The change that makes this version, if it is here; those before it are of no use any more."""
        if incarnation != self._incarnation:
            return None
        for old in [known for known in self._changes if known < version]:
            self._letters -= self._changes.pop(old).letters
        change = self._changes.pop(version, None)
        if change is not None:
            self._letters -= change.letters
        return change
