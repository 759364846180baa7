"""What the demonstration knows at a moment: what was heard, and what the nodes say about themselves.

Free of I/O: the time is an argument, everywhere the wall clock in unix seconds.
"""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LATENCY_WINDOW = 10.0
"""Seconds over which the latency's percentiles are taken."""
RATE_WINDOW = 5.0
"""Seconds over which a node's rates are taken."""
SHOW_SECONDS = 4.0
"""How long one pair of messages stays in the view: long enough to be read."""
_REMEMBERED = 512
_EVENTS = 50


class Latency(NamedTuple):
    """Percentiles of a window, in seconds, and how many values they stand on."""

    p50: float
    p99: float
    messages: int


class LatencyWindow:
    """The latencies of the last :data:`LATENCY_WINDOW` seconds."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque()

    def add(self, latency: float, now: float) -> None:
        """One message that took ``latency`` seconds."""
        self._values.append((now, latency))
        self._forget(now)

    def summary(self, now: float) -> Latency | None:
        """The percentiles, None where nothing was heard of late."""
        self._forget(now)
        if not self._values:
            return None
        ordered = sorted(latency for _, latency in self._values)
        return Latency(percentile(ordered, 0.50), percentile(ordered, 0.99), len(ordered))

    def _forget(self, now: float) -> None:
        while self._values and self._values[0][0] < now - LATENCY_WINDOW:
            self._values.popleft()


def percentile(ordered: list[float], share: float) -> float:
    """The smallest value that is not exceeded by ``share`` of the sorted, non-empty list (nearest rank)."""
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


class Heard(NamedTuple):
    """A message as a subscriber got it."""

    topic: str
    origin: str
    """The region whose device published it."""
    at: str
    """The region whose node delivered it."""
    fields: dict[str, str]


class Pair(NamedTuple):
    """The same message, heard in its own region and in another one."""

    raw: Heard
    masked: Heard


class Event(NamedTuple):
    """Something to tell: a node died, a node is back."""

    at: float
    text: str


@dataclass(slots=True)
class NodeState:
    """What is known about one node: from its process, and from its status topic."""

    name: str
    address: str
    mesh: str
    config: str
    """The configuration's file, as a command finds it."""
    pid: int = 0
    phase: str = "starting"
    """``starting``, ``up`` or ``down``."""
    restarts: int = 0
    status: Mapping[str, Any] = field(default_factory=dict)
    _samples: deque[tuple[float, Mapping[str, Any]]] = field(default_factory=deque)

    def told(self, status: Mapping[str, Any], now: float) -> None:
        """The node published a status."""
        if _number(status.get("uptime")) < _number(self.status.get("uptime")):
            self._samples.clear()
        self.status = status
        self._samples.append((now, _mapping(status.get("counters"))))
        while self._samples[0][0] < now - RATE_WINDOW:
            self._samples.popleft()

    def forget(self) -> None:
        """The process ended: its last status says nothing any more."""
        self.status = {}
        self._samples.clear()

    @property
    def region(self) -> str:
        """The region that the node says it is in; until it speaks, its name."""
        return str(self.status.get("region") or self.name)

    def rate(self, counter: str) -> float | None:
        """How fast a counter grew of late, per second; None while that is not known."""
        if len(self._samples) < 2:
            return None
        (first, old), (last, new) = self._samples[0], self._samples[-1]
        if counter not in old or counter not in new or last <= first:
            return None
        return max(0.0, (_number(new[counter]) - _number(old[counter])) / (last - first))

    def peer(self, name: str) -> Mapping[str, Any] | None:
        """What the node says about another one."""
        for peer in _mappings(self.status.get("peers")):
            if peer.get("name") == name:
                return peer
        return None

    def rules(self, stage: str, figure: str) -> int | None:
        """A figure summed over the rules of a stage; None where the node has none."""
        entries = [rule for rule in _mappings(self.status.get("plugins")) if rule.get("stage") == stage]
        return sum(int(_number(rule.get(figure))) for rule in entries) if entries else None

    def history(self, figure: str) -> int | None:
        """A figure of the node's history; None where it keeps none."""
        history = self.status.get("history")
        if not isinstance(history, Mapping) or figure not in history:
            return None
        return int(_number(history[figure]))


class State:
    """Everything that the view shows."""

    def __init__(self, nodes: Iterable[NodeState], started: float) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.started = started
        self.published: Counter[str] = Counter()
        """Readings that a node acknowledged, by region."""
        self.noise: Counter[str] = Counter()
        """Those of them that say only that a vehicle stands still, by region."""
        self.heard_local = 0
        self.heard_abroad = 0
        self.leaks = 0
        """Messages heard abroad in which a personal value of their vehicle was found."""
        self.latest_raw: Heard | None = None
        self.shown: Pair | None = None
        self.events: deque[Event] = deque(maxlen=_EVENTS)
        self._shown_at = 0.0
        self._latency: dict[tuple[str, str], LatencyWindow] = {}
        self._personal: dict[str, tuple[bytes, ...]] = {}
        self._partners: OrderedDict[tuple[str, str], Heard] = OrderedDict()

    def know_personal(self, topic: str, values: Sequence[str]) -> None:
        """Values that must not be found in a message of this topic in another region."""
        escaped = [json.dumps(value)[1:-1] for value in values]
        self._personal[topic] = tuple({value.encode() for value in (*values, *escaped)})

    def acknowledged(self, region: str, noise: bool) -> None:
        """A node took a device's reading over."""
        self.published[region] += 1
        self.noise[region] += noise

    def heard(self, at: str, topic: str, payload: bytes, now: float) -> None:
        """A subscriber in region ``at`` got a message."""
        levels = topic.split("/")
        if len(levels) < 2:
            return
        origin = levels[1]
        local = origin == at
        if local:
            self.heard_local += 1
        else:
            self.heard_abroad += 1
            self.leaks += any(value in payload for value in self._personal.get(topic, ()))
        document = _object(payload)
        stamp = document.get("ts")
        if isinstance(stamp, (int, float)):
            window = self._latency.setdefault((origin, at), LatencyWindow())
            window.add(now - stamp, now)
        message = Heard(topic, origin, at, flatten(document))
        if local:
            self.latest_raw = message
        self._match(message, str(stamp), now)

    def latency(self, origin: str, at: str, now: float) -> Latency | None:
        """How long messages from a device in ``origin`` took to a subscriber in ``at``."""
        window = self._latency.get((origin, at))
        return window.summary(now) if window else None

    def status(self, node: str, payload: bytes, now: float) -> None:
        """A node's status topic; what is no JSON object is left aside."""
        document = _object(payload)
        if document:
            self.nodes[node].told(document, now)

    def event(self, text: str, now: float) -> None:
        """Something happened that the reader should know of."""
        self.events.append(Event(now, text))

    def _match(self, message: Heard, stamp: str, now: float) -> None:
        key = (message.topic, stamp)
        partner = self._partners.get(key)
        local = message.at == message.origin
        if partner is not None and (partner.at == partner.origin) != local:
            self._show(Pair(message, partner) if local else Pair(partner, message), now)
        if partner is None or local:
            self._partners[key] = message
            if len(self._partners) > _REMEMBERED:
                self._partners.popitem(last=False)

    def _show(self, pair: Pair, now: float) -> None:
        """Change what is shown, not too often, and from region to region."""
        shown = self.shown
        if shown is not None:
            age = now - self._shown_at
            same = pair.raw.origin == shown.raw.origin
            if age < (2 * SHOW_SECONDS if same else SHOW_SECONDS):
                return
        self.shown = pair
        self._shown_at = now


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A JSON object as its leaves by dotted path, values in JSON's notation (text without quotes)."""
    leaves: dict[str, str] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return leaves


def _object(payload: bytes) -> dict[str, Any]:
    try:
        document = json.loads(payload)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) else 0.0
