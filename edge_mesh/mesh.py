"""The mesh behind the engine's port: this node among the others, over Zenoh."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from broker.message import Message, Run
from broker.ports import LocalNode, Outbound, Pipeline
from edge_mesh import control, envelope
from edge_mesh.arrivals import Arrivals
from edge_mesh.boundary import Boundary, OnSafe
from edge_mesh.clock import HybridClock
from edge_mesh.dispatch import Dispatch
from edge_mesh.endpoints import Endpoints
from edge_mesh.gateway import Gateway
from edge_mesh.heartbeat import Heartbeat
from edge_mesh.history_query import HistoryQuery, HistoryResponder
from edge_mesh.interest import LocalInterest, RemoteInterest
from edge_mesh.interest_sync import InterestSync
from edge_mesh.keys import Keys, check_name
from edge_mesh.lanes import SendingLane, Stand
from edge_mesh.link import Link, MeshError, Query
from edge_mesh.membership import Event, Membership, Seen
from edge_mesh.outbox import Outbox
from edge_mesh.outbox_store import OutboxError
from edge_mesh.outbox_watch import OutboxWatch
from edge_mesh.peers import Peer, PeerStatus
from edge_mesh.retained_sync import RetainedSync
from edge_mesh.room import Room
from edge_mesh.settings import MeshSettings
from edge_mesh.status_query import answer_status
from edge_mesh.ways import RegionStatus, Ways

logger = logging.getLogger("geomq.mesh")

_LINGER = 0.05
"""With ``durability: memory`` nobody waits for the outbox: most is acknowledged before it is due."""
_COMMIT_LINGER = 0.002
"""With ``durability: commit`` a near node's acknowledgement is faster than a disk, and saves writing at all."""
_PRUNE_SECONDS = 5.0
_LOOK_SECONDS = 6.0
_REMEMBER_SECONDS = 60.0


class ZenohMesh:
    """Implements :class:`broker.ports.Mesh`. All methods are called on the event loop.

    ValueError where the node's or region's name, or the namespace, is none.
    """

    def __init__(
        self,
        settings: MeshSettings,
        node: LocalNode,
        pipeline: Pipeline | None,
        history_query: HistoryQuery | None,
        status: Callable[[], dict[str, Any]] | None,
    ) -> None:
        self._settings = settings
        self._name = check_name(settings.node, "node")
        check_name(settings.region, "region")
        self._keys = Keys(settings.namespace)
        self._node = node
        self._status = status
        self._clock = HybridClock(settings.max_clock_ahead)
        self._incarnation = time.time_ns()
        self._interest = LocalInterest(self._incarnation, settings.max_filters)
        self._membership = Membership(self._keys, self._name, self._incarnation)
        self._boundary = Boundary(pipeline, self._interested, self.stamp)
        self._history = HistoryResponder(self._name, history_query, self._boundary, time.time)
        self._durable = settings.durability == "commit"
        self._peers: dict[str, Peer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self.on_failure: Callable[[], None] = lambda: None
        """Called each time that the disk does not take what waits for other nodes; to be set before the start."""
        self._outbox: Outbox
        self._watch: OutboxWatch
        self._room: Room
        self._link: Link
        self._stand: Stand
        self._ways: Ways
        self._dispatch: Dispatch
        self._gateway: Gateway
        self._endpoints: Endpoints
        self._arrivals: Arrivals
        self._retained: RetainedSync
        self._interest_sync: InterestSync
        self._heartbeat: Heartbeat
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Join the mesh; :class:`edge_mesh.link.MeshError` says what is in the way."""
        self._loop = asyncio.get_running_loop()
        await self._open_outbox()
        self._link = Link(self._settings, self._loop)
        try:
            await self._link.open()
        except MeshError:
            await self._outbox.close()
            raise
        self._stand = Stand(
            node=self._name,
            keys=self._keys,
            link=self._link,
            outbox=self._outbox,
            local=self._node,
            durable=self._durable,
            times=self._times,
            later=self._loop.call_later,
            window=self._settings.window_bytes,
            retry=self._settings.retry_seconds,
        )
        self._endpoints = Endpoints(self._settings.connect, self._settings.tls, self._link.far_ends)
        self._ways = Ways(self._stand, self._settings.region, self._peers)
        self._dispatch = Dispatch(self._ways, self._outbox, self._room, self._durable, self._loop)
        self._retained = RetainedSync(
            name=self._name,
            keys=self._keys,
            link=self._link,
            node=self._node,
            boundary=self._boundary,
            wall=time.time,
            clock=self._clock,
            sends_to=self._peers.__contains__,
        )
        self._arrivals = Arrivals(self._stand, self._retained.observe, lambda: self.refused)
        self._gateway = Gateway(self._name, self._keys, self._link, self._arrivals.take)
        self._interest_sync = InterestSync(
            name=self._name,
            keys=self._keys,
            link=self._link,
            outbox=self._outbox,
            node=self._node,
            local=self._interest,
            spawn=self._spawn,
        )
        self._heartbeat = Heartbeat(
            self._link, self._keys, self._name, self._interest, self._peers, self._settings.ping_seconds
        )
        self._recall_peers()
        for topic_filter in self._node.local_filters():
            self._interest.add(topic_filter)
        while self._interest.changed:
            self._interest.take_change()
        for message in self._node.retained_messages():
            self._clock.observe(message.stamp, time.time())
        self._running = True
        self._declare()
        self._spawn(self._tick_forever())

    async def meets(self, seconds: float) -> None:
        """Wait so long for another node, and where one is there ten times as long for its retained messages."""
        if self._settings.connect or self._settings.scouting:
            await self._retained.meets(seconds, lambda: any(peer.alive for peer in self._peers.values()))

    async def _open_outbox(self) -> None:
        settings = self._settings
        path = settings.data_dir / "outbox.db" if self._durable and settings.data_dir else None
        linger = _COMMIT_LINGER if self._durable else _LINGER
        try:
            self._outbox = await asyncio.to_thread(
                Outbox, path, settings.retention_seconds, settings.outbox_bytes, linger
            )
        except OutboxError as error:
            raise MeshError(str(error)) from None
        self._outbox.on_failure = self.on_failure
        self._outbox.start(self._loop)
        self._watch = OutboxWatch(self._outbox)
        self._room = Room(self._outbox, self._peers, settings)

    def _recall_peers(self) -> None:
        """The nodes known before this one was stopped: what is for them is queued from the start."""
        oldest = time.time() - self._settings.retention_seconds
        for known in self._outbox.known_peers:
            if known.seen_at < oldest:
                self._outbox.forget_peer(known.name, self._outbox.first_sequence)
                continue
            self._add_peer(known.name, known.region, known.seen_at, RemoteInterest(known.topic_filters))
            self._node.remote_interest(known.name, known.topic_filters, ())
        self._ways.rebuild()

    def _declare(self) -> None:
        link, keys, name = self._link, self._keys, self._name
        link.after_burst = self._arrivals.deliver
        link.subscribe(keys.live(name, "*"), lambda item: self._arrivals.take(item, envelope.LIVE))
        link.subscribe(keys.durable(name, "*"), lambda item: self._arrivals.take(item, envelope.DURABLE))
        link.subscribe(keys.relay(name, "*"), self._gateway.receive)
        link.subscribe(keys.control(name, "*"), self._on_control)
        link.subscribe(keys.all_interest, self._on_interest)
        link.answer(keys.query(name, "interest"), self._unless_refused(self._interest_sync.answer))
        status = self._status
        if status is not None:
            link.answer(keys.query(name, "status"), lambda query: answer_status(query, status))
        for what, work in (*self._retained.questions, ("history", self._history.answer)):
            link.answer(keys.query(name, what), self._unless_refused(self._spawning(work)))
        link.watch_tokens(keys.all_tokens, self._on_token)
        # Last: whoever sees the token may ask and send at once.
        link.declare_token(keys.token(self._settings.region, name, self._incarnation))

    def _unless_refused(self, answer: Callable[[Query], None]) -> Callable[[Query], None]:
        # Whoever asks for the name means the node that has it.
        return lambda query: query.finish() if self.refused else answer(query)

    def _spawning(self, work: Callable[[Query], Coroutine[Any, Any, None]]) -> Callable[[Query], None]:
        return lambda query: self._spawn(work(query))

    async def stop(self) -> None:
        """Leave the mesh; what waits for other nodes stays in the outbox."""
        if not self._running:
            return
        self._running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._dispatch.flush()
        self._link.withdraw_token()
        await self._link.close()
        for peer in self._peers.values():
            peer.lane.close()
        self._ways.close()
        self._gateway.close()
        await self._outbox.close()

    async def reconfigure(self, settings: MeshSettings) -> None:
        """Go on with other settings: all but ``node``, ``data_dir``, ``namespace`` and ``durability`` may differ.

        Where the link has to be opened anew it is as if it had been cut. MeshError where that fails: then nothing
        has changed.
        """
        old = self._settings
        if settings.link != old.link:
            token = self._keys.token(settings.region, self._name, self._incarnation)
            await self._link.reopen(settings, token)
        self._settings = self._room.settings = settings
        self._endpoints = Endpoints(settings.connect, settings.tls, self._link.far_ends)
        self._ways.rebuild(settings.region)
        self._outbox.set_bounds(settings.retention_seconds, settings.outbox_bytes)
        if settings.max_filters != old.max_filters and self._interest.set_bound(settings.max_filters):
            self._announce_soon()

    def have_rules(self, pipeline: Pipeline) -> None:
        """From now on there are egress rules, where there were none."""
        self._boundary.pipeline = pipeline

    def have_history(self, query: HistoryQuery | None) -> None:
        """From now on questions to this node's history are answered from this one; None: there is none."""
        self._history.query = query

    # -- the engine's port ------------------------------------------------------------------------------

    def interest_added(self, topic_filter: str) -> None:
        """The first local session subscribed to this filter."""
        if self._interest.add(topic_filter):
            self._announce_soon()

    def interest_removed(self, topic_filter: str) -> None:
        """The last local session left this filter."""
        if self._interest.remove(topic_filter):
            self._announce_soon()

    def forward(self, batch: Sequence[Outbound], on_safe: Callable[[], None] | None) -> bool:
        """Take messages over for other nodes (see :meth:`broker.ports.Mesh.forward`)."""
        if not self._running:
            return False
        waits = self._boundary.pass_on(batch, time.time(), self._send, on_safe)
        self._room.handed_over(batch)
        return waits

    def forward_run(self, run: Run, nodes: tuple[str, ...]) -> None:
        """See the port."""
        if self._running:
            self._boundary.pass_run(run, nodes, time.time(), self._dispatch.send_run, self._send)

    def publish_emitted(self, messages: Sequence[Message]) -> None:
        """See the port."""
        self._boundary.pass_emitted(messages, self._send)

    def _send(self, passed: Sequence[Outbound], on_safe: OnSafe, dropped: Sequence[int] = ()) -> bool:
        # Rules may be through with a batch only when the node has left the mesh.
        return self._running and self._dispatch.send(passed, on_safe, dropped)

    @property
    def failing(self) -> bool:
        """See the port."""
        return self._running and self._outbox.failing

    def has_to_keep(self, nodes: tuple[str, ...]) -> bool:
        """See the port."""
        return self._running and not self._ways.plan(nodes).everybody_there

    def refuses(self, nodes: Sequence[str], retain: bool, size: int) -> bool:
        """See :meth:`broker.ports.Mesh.refuses`."""
        return self._room.refuses(nodes, retain, size)

    def stamp(self) -> int:
        """A new hybrid logical clock stamp."""
        return self._clock.stamp(time.time())

    @property
    def crossed(self) -> Collection[int]:
        """See the port."""
        return self._outbox.crossed

    def forget_crossed(self, numbers: Sequence[int]) -> None:
        """See the port."""
        self._outbox.forget_crossed(numbers)

    # -- what people ask --------------------------------------------------------------------------------

    def peers(self) -> list[PeerStatus]:
        """The other nodes, living and remembered, by name."""
        return [
            peer.status(self._arrivals.of(name), self._outbox) for name, peer in sorted(self._peers.items())
        ]

    def regions(self) -> list[RegionStatus]:
        """The other regions, by name, and what went to them since this node was started."""
        return self._ways.regions()

    @property
    def handed_on(self) -> int:
        """Envelopes that this node, as its region's gateway, sent on to others."""
        return self._gateway.handed_on

    @property
    def refused(self) -> bool:
        """Whether this node keeps out of the mesh because another one has its name."""
        return self._membership.refused

    @property
    def kept_back(self) -> int:
        """Messages that the egress rules did not let out."""
        return self._boundary.kept_back

    @property
    def retained_withheld(self) -> int:
        """Retained messages that nodes were not told, because egress rules fail on them."""
        return self._retained.withheld

    def forgotten(self) -> dict[str, dict[str, object]]:
        """The accounts of nodes that were away for too long, by name."""
        outbox, peers = self._outbox, self._peers
        return {name: outbox.ledger(name).as_dict() for name in outbox.destinations() if name not in peers}

    def outbox_status(self) -> dict[str, Any]:
        """See :meth:`edge_mesh.outbox_watch.OutboxWatch.status`."""
        return self._watch.status(self._settings)

    # -- nodes come and go ------------------------------------------------------------------------------

    def _on_token(self, token: tuple[str, bool]) -> None:
        seen = self._membership.token_changed(*token)
        if seen is None:
            return
        match seen.event:
            case Event.JOINED:
                self._joined(seen)
            case Event.LEFT:
                self._left(seen)
            case Event.NAME_TAKEN:
                logger.error(
                    "the node name %r is taken by another living node: this node keeps out of the mesh "
                    "until that one is gone; give it another name",
                    self._name,
                )
                self._link.withdraw_token()
                for peer in self._peers.values():
                    peer.lane.pause()
                self._ways.rebuild()
            case Event.NAME_FREE:
                logger.warning("the node name %r is free: this node joins the mesh", self._name)
                self._link.declare_token(
                    self._keys.token(self._settings.region, self._name, self._incarnation)
                )
                self._announce_soon()
                for peer in self._peers.values():
                    if peer.alive:
                        self._meet(peer)
                self._ways.rebuild()

    def _joined(self, seen: Seen) -> None:
        peer = self._peers.get(seen.node)
        if peer is None:
            peer = self._add_peer(seen.node, seen.region, time.time(), RemoteInterest())
        logger.info("node %s of region %s is there", seen.node, seen.region)
        peer.alive, peer.region, peer.incarnation = True, seen.region, seen.incarnation
        peer.since = peer.seen_at = time.time()
        peer.heard_at = time.monotonic()
        self._outbox.remember_peer(peer.name, peer.region)
        self._ways.rebuild()
        if not self.refused:
            self._meet(peer)

    def _meet(self, peer: Peer) -> None:
        peer.lane.resume()
        self._interest_sync.fetch(peer)
        self._spawn(self._retained.fetch(peer, peer.incarnation))

    def _left(self, seen: Seen) -> None:
        peer = self._peers.get(seen.node)
        if peer is None:
            return
        logger.warning("node %s of region %s is gone", peer.name, peer.region)
        peer.alive = False
        peer.since = peer.seen_at = time.time()
        peer.round_trip = peer.clock_difference = None
        peer.lane.pause()
        self._outbox.remember_peer(peer.name, peer.region)
        self._ways.rebuild()

    def _add_peer(self, name: str, region: str, seen_at: float, interest: RemoteInterest) -> Peer:
        lane = SendingLane(self._stand, name)
        peer = self._peers[name] = Peer(name, region, seen_at, interest, lane)
        return peer

    def _forget_long_gone(self, now: float, jump: float) -> None:
        """``jump`` is by how much the wall clock was set: nobody has been away for longer than that."""
        for peer in self._peers.values():
            peer.seen_at += jump
        oldest = now - self._settings.retention_seconds
        gone = [peer for peer in self._peers.values() if not peer.alive and peer.seen_at < oldest]
        for peer in gone:
            logger.warning(
                "node %s has been away for too long and is forgotten, with %d messages for it",
                peer.name,
                self._outbox.ledger(peer.name).queued,
            )
            del self._peers[peer.name]
            peer.lane.close()
            self._outbox.forget_peer(peer.name, peer.lane.last)
            self._node.remote_gone(peer.name)
        if gone:
            self._ways.rebuild()

    # -- interest ---------------------------------------------------------------------------------------

    def _on_interest(self, item: tuple[str, bytes]) -> None:
        key, payload = item
        peer = self._peers.get(Keys.last_chunk(key))
        if peer is not None:
            self._interest_sync.hear(peer, payload)

    def _announce_soon(self) -> None:
        if self._running and not self.refused:
            self._interest_sync.announce_soon()

    def _interested(self, topic: str) -> tuple[str, ...]:
        return tuple(name for name, peer in self._peers.items() if peer.interest.matches(topic))

    # -- control ----------------------------------------------------------------------------------------

    def _on_control(self, item: tuple[str, bytes]) -> None:
        key, payload = item
        peer = self._peers.get(Keys.last_chunk(key))
        if peer is None or self.refused:
            return
        peer.heard_at = time.monotonic()
        try:
            frame = control.decode(payload)
        except control.ControlError as error:
            logger.error("a control frame of node %s cannot be read: %s", peer.name, error)
            return
        if isinstance(frame, control.Ack):
            if peer.alive:
                peer.lane.acknowledge(frame)
        elif isinstance(frame, control.Ping):
            self._heartbeat.answer(peer, frame, self._settings.version)
            self._interest_sync.compare(peer, frame, peer.heard_at)
        else:
            peer.pong(*frame, self._times())

    # -- time -------------------------------------------------------------------------------------------

    def _times(self) -> tuple[float, float]:
        return time.time(), time.monotonic()

    async def _tick_forever(self) -> None:
        settings = self._settings
        next_ping = next_prune = next_remember = 0.0
        next_look = time.monotonic() + _LOOK_SECONDS / 2
        while True:
            wall, clock = self._times()
            for peer in self._peers.values():
                peer.lane.tick()
                peer.measure(self._arrivals.of(peer.name), clock)
            self._room.look()
            if clock >= next_ping:
                next_ping = clock + settings.ping_seconds
                if not self.refused:
                    self._heartbeat.beat(clock)
            if clock >= next_look:
                next_look = clock + _LOOK_SECONDS
                self._spawn(self._endpoints.check())
            if clock >= next_prune:
                next_prune = clock + _PRUNE_SECONDS
                jump = self._outbox.prune()
                self._watch.look(self._settings, self._peers)
                self._forget_long_gone(wall, jump)
            if clock >= next_remember:
                next_remember = clock + _REMEMBER_SECONDS
                for peer in self._peers.values():
                    if peer.alive:
                        self._outbox.remember_peer(peer.name, peer.region)
            await asyncio.sleep(min(settings.retry_seconds, settings.ping_seconds) / 2)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("work of the mesh failed", exc_info=task.exception())
