"""How messages get to other nodes: each over its own lane, or several of another region in one envelope.

Towards another region an envelope goes once, to the region's gateway, which hands it on. Sequences, acknowledgements
and what waits remain the lane's, between this node and each receiver: a gateway that dies takes nothing with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from edge_mesh import envelope, regions, relay
from edge_mesh.convoy import GATHER_SECONDS, Convoy
from edge_mesh.lanes import DURABLE_BYTES, LIVE_BYTES, MAX_RECORDS, SendingLane, Stand, Step, Traffic
from edge_mesh.link import DURABLE, Sender
from edge_mesh.live_puts import LivePuts

_MAX_PLANS = 4096


class Node(Protocol):
    """What has to be known of another node."""

    name: str
    region: str
    alive: bool
    lane: SendingLane


class _Collected:
    """Records for a way's nodes, until they are sent. Bits of a mask are those of the lanes."""

    __slots__ = ("has_runs", "masks", "records", "size")

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.masks: list[int] = []
        self.size = 0
        self.has_runs = False
        """Whether a record may hold more than one message."""

    def take(self) -> tuple[list[bytes], list[int]]:
        taken = self.records, self.masks
        self.records, self.masks, self.size, self.has_runs = [], [], 0, False
        return taken


class Way:
    """To one node, or to some of one other region; what is put is counted in ``traffic``."""

    def __init__(self, stand: Stand, lanes: tuple[SendingLane, ...], traffic: Traffic) -> None:
        self._stand = stand
        self._link = stand.link
        self.lanes = lanes
        self.gateway: str | None = None
        """Who hands on what is for several; None where nobody has to."""
        self._traffic = traffic
        self._live = _Collected()
        self._durable = _Collected()
        self._sender: Sender | None = None
        self._live_puts: dict[str, LivePuts] = {}
        self._convoy: Convoy | None = None
        self._detours: list[SendingLane] = []
        """Lanes that read from the outbox next what was just put there."""
        for position, lane in enumerate(lanes):
            lane.way, lane.bit, lane.traffic = self, 1 << position, traffic

    def add_live(self, record: bytes, lanes: tuple[SendingLane, ...], mask: int, count: int) -> None:
        """``count`` messages that may be lost, in one record."""
        for lane in lanes:
            if not lane.alive:
                lane.live_dropped += count
                mask &= ~lane.bit
        if not mask:
            return
        live = self._live
        if live.size + len(record) > LIVE_BYTES and live.records:
            self._flush_live()
        live.has_runs = live.has_runs or count > 1
        live.records.append(record)
        live.masks.append(mask)
        live.size += len(record)
        if live.size >= LIVE_BYTES or len(live.records) >= MAX_RECORDS:
            self._flush_live()

    def add_durable(
        self, record: bytes, lanes: tuple[SendingLane, ...], mask: int, targets: list[tuple[str, int]]
    ) -> None:
        """A message that must arrive. The caller gives it to the outbox, too, for the ``targets`` added."""
        size = len(record)
        for lane in lanes:
            lane.last += 1
            targets.append((lane.receiver, lane.last))
            if lane.direct:
                lane.pending += 1
                lane.pending_bytes += size
            else:
                mask &= ~lane.bit
        if not mask:
            return
        durable = self._durable
        durable.records.append(record)
        durable.masks.append(mask)
        durable.size += size
        if durable.size >= DURABLE_BYTES or len(durable.records) >= MAX_RECORDS:
            self._flush_durable()

    def add_stored(self, lanes: tuple[SendingLane, ...], targets: list[tuple[str, int]]) -> None:
        """A message that must be in the outbox before it is sent; the caller puts it there, for the ``targets`` added.

        Then it calls :meth:`send_stored`.
        """
        if self._durable.records:
            self._flush_durable()
        for lane in lanes:
            lane.last += 1
            targets.append((lane.receiver, lane.last))
            if lane.direct:
                lane.direct = False
                self._detours.append(lane)

    def send_stored(self) -> None:
        """Have what must be in the outbox first read from there, for all lanes at once."""
        lanes, self._detours = self._detours, []
        if len(lanes) == 1:
            lanes[0].pump()
        elif lanes:
            convoy = Convoy(self._stand.outbox, self._put)
            for lane in lanes:
                convoy.join(lane)
            convoy.depart()

    def resumed(self, lane: SendingLane) -> None:
        """The lane is about to catch up: with others of its region, where there are any."""
        if len(self.lanes) == 1:
            return
        convoy = self._convoy
        if convoy is None or not convoy.gathers:
            convoy = self._convoy = Convoy(self._stand.outbox, self._put)
            self._stand.later(GATHER_SECONDS, convoy.depart)
        convoy.join(lane)

    def leave(self, lane: SendingLane) -> None:
        """What was collected for the lane, and must arrive, will be read from the outbox."""
        self._durable.masks = [mask & ~lane.bit for mask in self._durable.masks]

    def drop_live(self, lane: SendingLane) -> None:
        """What was collected for the lane, and may be lost, is."""
        live = self._live
        lane.live_dropped += _messages(_chosen(live.records, live.masks, lane.bit), live.has_runs)
        live.masks = [mask & ~lane.bit for mask in live.masks]

    def flush(self) -> None:
        """End of the loop's turn: send what was collected."""
        if self._live.records:
            self._flush_live()
        if self._durable.records:
            self._flush_durable()

    def close(self) -> None:
        """The way is not used any more."""
        if self._convoy is not None:
            self._convoy.dissolve()
        for puts in self._live_puts.values():
            puts.close()
        if self._sender is not None:
            self._sender.stop()

    def _flush_live(self) -> None:
        has_runs = self._live.has_runs
        records, masks = self._live.take()
        now, _ = self._stand.times()
        if self.gateway is not None and len(self.lanes) > 1:
            # What goes with it must not decide which way a message takes: the next one of its topic could overtake it.
            shared = [
                (record, mask) for record, mask in zip(records, masks, strict=True) if mask & (mask - 1)
            ]
            if shared:
                self._put_live_to_gateway(self.gateway, shared, has_runs, now)
                if len(shared) == len(records):
                    return
                masks = [0 if mask & (mask - 1) else mask for mask in masks]
        for lane in self.lanes:
            some = _chosen(records, masks, lane.bit)
            if some:
                lane.put_live(some, _messages(some, has_runs), now)

    def _put_live_to_gateway(
        self, gateway: str, shared: list[tuple[bytes, int]], has_runs: bool, now: float
    ) -> None:
        records, masks = [record for record, _ in shared], [mask for _, mask in shared]
        shares = [(lane, some) for lane in self.lanes if (some := _chosen(records, masks, lane.bit))]
        targets = [relay.Target(lane.receiver, 0, 0, lane.bit) for lane, _ in shares]
        data = envelope.encode(envelope.LIVE, self._stand.node, records, now)
        frame = relay.encode(data, targets, records, masks)
        if gateway not in self._live_puts:
            self._live_puts[gateway] = LivePuts(self._link, f"live-to-{gateway}")
        if not self._live_puts[gateway].put(self._stand.keys.relay(gateway, self._stand.node), frame):
            for lane, some in shares:
                lane.live_dropped += _messages(some, has_runs)
            return
        for lane, some in shares:
            lane.sent += _messages(some, has_runs)
            lane.sent_bytes += sum(map(len, some))
        self._traffic.add(_messages(records, has_runs), len(frame))

    def _flush_durable(self) -> None:
        records, masks = self._durable.take()
        steps = [(lane, step) for lane in self.lanes if lane.pending and (step := lane.book_pending())]
        self._put(steps, records, masks)

    def _put(self, steps: list[tuple[SendingLane, Step]], records: list[bytes], masks: list[int]) -> None:
        if len(steps) > 1 and self.gateway is not None:
            steps = self._put_together(self.gateway, steps, records, masks)
        for lane, step in steps:
            whole = step.total == len(records)
            lane.put_durable(records if whole else _chosen(records, masks, lane.bit), step)

    def _put_together(
        self, gateway: str, steps: list[tuple[SendingLane, Step]], records: list[bytes], masks: list[int]
    ) -> list[tuple[SendingLane, Step]]:
        """What can go through the gateway at once does; returns what is left."""
        # One frame has one epoch.
        epoch = self._stand.outbox.epoch
        targets = [
            relay.Target(lane.receiver, step.after, step.first, lane.bit)
            for lane, step in steps
            if lane.epoch == epoch
        ]
        if len(targets) < 2:
            return steps
        self._put_to_gateway(gateway, targets, records, masks)
        return [(lane, step) for lane, step in steps if lane.epoch != epoch]

    def _put_to_gateway(
        self, gateway: str, targets: list[relay.Target], records: list[bytes], masks: list[int]
    ) -> None:
        stand = self._stand
        everybody = 0
        for target in targets:
            everybody |= target.bit
        if not all(mask & everybody for mask in masks):
            records, masks = _without_receiver(records, masks, everybody)
        now, _ = stand.times()
        data = envelope.encode(
            envelope.DURABLE, stand.node, records, now, epoch=stand.outbox.epoch, after=0, first=1
        )
        frame = relay.encode(data, targets, records, masks)
        self._traffic.add(len(records), len(frame))
        key = stand.keys.relay(gateway, stand.node)
        lanes = [lane for lane in self.lanes if lane.bit & everybody]
        if all(lane.light for lane in lanes):
            self._link.put_soon(key, frame, DURABLE)
            return
        if self._sender is None:
            self._sender = self._link.sender(f"to-{gateway}")
        for lane in lanes:
            lane.threaded()
        self._link.put_surely(self._sender, key, frame, DURABLE)


def _messages(records: list[bytes], has_runs: bool) -> int:
    return sum(map(envelope.messages_in, records)) if has_runs else len(records)


def _chosen(records: list[bytes], masks: list[int], bits: int) -> list[bytes]:
    return [record for record, mask in zip(records, masks, strict=True) if mask & bits]


def _without_receiver(
    records: list[bytes], masks: list[int], everybody: int
) -> tuple[list[bytes], list[int]]:
    return _chosen(records, masks, everybody), [mask for mask in masks if mask & everybody]


class _Leg(NamedTuple):
    """The part of a plan that goes one way."""

    way: Way
    lanes: tuple[SendingLane, ...]
    mask: int


class Plan:
    """The ways to the same set of nodes. Valid until the ways are rebuilt."""

    __slots__ = ("_legs", "everybody_there")

    def __init__(self, lanes: Mapping[Way, list[SendingLane]]) -> None:
        self._legs = [_Leg(way, tuple(some), sum(lane.bit for lane in some)) for way, some in lanes.items()]
        self.everybody_there = all(lane.alive for some in lanes.values() for lane in some)

    def add_live(self, record: bytes, count: int = 1) -> None:
        """``count`` messages that may be lost, in one record."""
        for way, lanes, mask in self._legs:
            way.add_live(record, lanes, mask, count)

    def add_durable(self, record: bytes) -> tuple[tuple[str, int], ...]:
        """A message that must arrive; (node, sequence) for the outbox, to which the caller gives it."""
        targets: list[tuple[str, int]] = []
        for way, lanes, mask in self._legs:
            way.add_durable(record, lanes, mask, targets)
        return tuple(targets)

    def add_stored(self, record: bytes) -> tuple[tuple[str, int], ...]:
        """As :meth:`add_durable`; what was added is sent from there after :meth:`send_stored`."""
        targets: list[tuple[str, int]] = []
        for way, lanes, _ in self._legs:
            way.add_stored(lanes, targets)
        return tuple(targets)

    def send_stored(self) -> None:
        """What was added by :meth:`add_stored` is on its way to the outbox."""
        for way, *_ in self._legs:
            way.send_stored()


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """Another region, for people and for JSON."""

    name: str
    nodes: int
    """How many of its nodes are known, living or remembered."""
    gateway: str | None
    """Which of them takes what is for several; None where none is alive."""
    sent: int
    """Messages put towards it; what goes to several nodes by way of the gateway counts once."""
    sent_bytes: int
    """Before compression."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class Ways:
    """All ways of a node of ``region``; ``peers`` is the mesh's own, living table of the others.

    :meth:`rebuild` has to be called when a node came, went or changed its region.
    """

    def __init__(self, stand: Stand, region: str, peers: Mapping[str, Node]) -> None:
        self._stand = stand
        self._region = region
        self._peers = peers
        self._ways: list[Way] = []
        self._way_to: dict[str, Way] = {}
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._everybody: tuple[str, ...] = ()
        self._gateways: dict[str, str] = {}
        self._traffic: dict[str, Traffic] = {}

    def regions(self) -> list[RegionStatus]:
        """The other regions, by name."""
        return [
            RegionStatus(
                region,
                sum(1 for peer in self._peers.values() if peer.region == region),
                self._gateways.get(region),
                traffic.messages,
                traffic.size,
            )
            for region, traffic in sorted(self._traffic.items())
            if region != self._region
        ]

    def plan(self, nodes: tuple[str, ...]) -> Plan:
        """How to reach these nodes; those that are not known are left out."""
        return self._plans.get(nodes) or self._make_plan(nodes)

    @property
    def everybody(self) -> Plan:
        """How to reach all nodes, living or remembered."""
        return self.plan(self._everybody)

    def flush(self) -> None:
        """End of the loop's turn: send what was collected."""
        for way in self._ways:
            way.flush()

    def close(self) -> None:
        """Nothing more is sent."""
        for way in self._ways:
            way.close()

    def rebuild(self, own_region: str | None = None) -> None:
        """Choose the ways anew; ``own_region`` where this node has moved to another one."""
        if own_region is not None:
            self._region = own_region
        self.flush()
        former = {way.lanes: way for way in self._ways}
        self._plans.clear()
        self._ways.clear()
        self._way_to.clear()
        self._gateways.clear()
        self._everybody = tuple(self._peers)
        by_region: dict[str, list[Node]] = {}
        for name in sorted(self._peers):
            peer = self._peers[name]
            by_region.setdefault(peer.region, []).append(peer)
        for region, nodes in by_region.items():
            lanes = [node.lane for node in nodes]
            if region == self._region:
                for lane in lanes:
                    self._open(former, region, (lane,), None)
                continue
            gateway = regions.gateway(region, (node.name for node in nodes if node.alive))
            if gateway is not None:
                self._gateways[region] = gateway
            for start in range(0, len(lanes), relay.MAX_TARGETS):
                self._open(former, region, tuple(lanes[start : start + relay.MAX_TARGETS]), gateway)

        for way in former.values():
            way.close()

    def _open(
        self,
        former: dict[tuple[SendingLane, ...], Way],
        region: str,
        lanes: tuple[SendingLane, ...],
        gateway: str | None,
    ) -> None:
        way = former.pop(lanes, None)
        if way is None:
            way = Way(self._stand, lanes, self._traffic.setdefault(region, Traffic()))
        way.gateway = gateway
        self._ways.append(way)
        self._way_to.update((lane.receiver, way) for lane in lanes)

    def _make_plan(self, nodes: tuple[str, ...]) -> Plan:
        lanes: dict[Way, list[SendingLane]] = {}
        for name in nodes:
            way = self._way_to.get(name)
            if way is not None:
                lanes.setdefault(way, []).append(self._peers[name].lane)
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        plan = self._plans[nodes] = Plan(lanes)
        return plan
