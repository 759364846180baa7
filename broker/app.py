"""The one place where the parts of a node are put together, started and stopped."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from broker import __version__
from broker.access.bans import Bans
from broker.access.opening import AccessError, open_gates
from broker.config import Listener as ListenerSettings
from broker.config import NodeConfig
from broker.config.base import join_address
from broker.configured import ban_terms, listener_door, listener_files, listener_limits, node_limits
from broker.crossings import Crossings
from broker.datafolder import DataFolder, FolderError
from broker.engine import Engine
from broker.engine_face import EngineFace, RulesFace
from broker.net.listener import Listener, why_not_open
from broker.net.tls import TlsError, TlsListener
from broker.new_limits import change_limits
from broker.observe.journal import AuditLog
from broker.observe.load_watch import LoadWatch
from broker.observe.node_socket import Answer, NodeSocket
from broker.observe.sys_topics import SysTopics
from broker.parts import mesh_settings, place_of, rule_entries
from broker.ports import Authority
from broker.reload import Outcome, compare
from broker.stats import Stats
from broker.store.room import DiskRoom, with_room

if TYPE_CHECKING:
    from broker.access.gate import Gate
    from broker.store.writer import StoreWriter
    from edge_mesh.mesh import ZenohMesh
    from plugins.stages import Stages
    from plugins.store.history import History
    from plugins.store.rule_state import StateStore

logger = logging.getLogger("geomq")

T = TypeVar("T")

_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread must offer the interpreter lock: Zenoh's callbacks wait for it (the default
of 5 ms shows in the mesh's latency)."""


_MEETING = 3.0
"""Seconds that a node which knows no retained message waits for those of others before it lets clients in."""
_TICK = 1.0
_DRAIN = 3.0
"""Seconds for which a node that stops waits for its rules."""
_SHOWN = 20_000
"""Sessions after which a start that takes its time says how far it is."""


class StartError(Exception):
    """Why a node cannot start, in words for its operator."""


class Node:
    """One GeoMQ node: listeners, engine, rules, history, mesh."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.addresses: list[tuple[str, int] | str] = []
        """Where the listeners really listen, once started (a port of 0 lets the system choose)."""
        self.places: list[str] = []
        """The same for people, with what is spoken there."""
        self._listeners: list[Listener] = []
        self._folder: DataFolder | None = None
        self._store: StoreWriter | None = None
        self._room: DiskRoom | None = None
        self._marks: dict[str, tuple[int, int]] = {}
        self._journal = AuditLog()
        self._ticker: asyncio.Task[None] | None = None
        self._stages: Stages | None = None
        self._history: History | None = None
        self._memory: StateStore | None = None
        self._mesh: ZenohMesh | None = None
        self._gates: list[Gate] = []
        self._stats = Stats()
        self._load = LoadWatch(config.limits.overload_memory, config.limits.overload_lag, self._stats)
        self._bans = Bans(*ban_terms(config), self._stats)
        self._socket: NodeSocket | None = None
        self.answers: dict[str, Answer] = {"status": self._tell_status}
        """What may be asked in the node's folder, from its start on."""
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()

    async def start(self) -> None:
        """Start every part; StartError says what is in the way, with whatever had started stopped again."""
        loop = self._loop
        try:
            self._folder = _take_folder(
                self.config.node.data, self.config.durability == "commit" or bool(self.config.plugins.store)
            )
            await self._open_rules(self.config)
            authority = await self._open_gates()
            self.engine = Engine(
                node_limits(self.config),
                authority,
                self._stages,
                loop.time(),
                time.time(),
                self._journal,
                self._stats,
            )
            self.engine.turns.wake = self._take_turns_soon
            if self._stages is not None:
                self._stages.surroundings = RulesFace(self.engine, loop)
            await self._open_store()
            self._sys = SysTopics(self.engine)
            if self.config.mesh.enabled:
                await self._open_mesh(loop)
            for settings in self.config.listeners:
                await self._open_listener(settings)
            await self._open_socket()
            self._ticker = loop.create_task(self._tick_forever(loop))
        except BaseException:
            await self.stop()
            raise

    async def _open_store(self) -> None:
        """What earlier processes kept, and where this one keeps it."""
        if self.config.durability != "commit":
            return
        from broker.store.database import Database, StoreError
        from broker.store.writer import StoreWriter

        path = self.config.node.data / "broker.db"
        try:
            open_it = partial(asyncio.to_thread, Database, path, self.config.synchronous)
            database = await with_room(path.parent, open_it, StoreError)
        except StoreError as error:
            raise StartError(str(error)) from None
        self._store = self.engine.store = StoreWriter(database)
        self._store.told = self.engine.flush
        self._room = DiskRoom(path.parent, self.config.limits.disk_reserve)
        self._store.on_failure = self.engine.roster.refuse_waiting
        try:
            await self._recover(self._store, path)
            self._marks = self._store.marks()
        except sqlite3.Error as error:
            raise StartError(f"{path} cannot be read: {error}; `geomq store check` tells more") from None
        self._store.start()

    async def _recover(self, store: StoreWriter, path: Path) -> None:
        """Take back what earlier processes kept, before the first client can come."""
        engine = self.engine
        await with_room(path.parent, partial(asyncio.to_thread, store.settle), sqlite3.Error)
        retained = engine.restore(store.retained(), time.time())
        total = store.count_sessions()
        now = self._loop.time()
        for number, session in enumerate(store.sessions(), 1):
            engine.restore_session(session, store, now)
            if not number % _SHOWN:
                logger.info("%s: %d of %d sessions", path, number, total)
                await asyncio.sleep(0)
        for client_id, will in store.wills():
            engine.roster.restore_will(client_id, will, now)
        if retained or total:
            queued = engine.stats.queued_messages
            logger.info(
                "%s: %d retained messages, %d sessions, %d messages for them", path, retained, total, queued
            )

    async def _open_gates(self) -> Authority:
        try:
            return await open_gates(self.config, self._bans, self._gates)
        except AccessError as error:
            raise StartError(str(error)) from None

    async def _open_listener(self, settings: ListenerSettings) -> None:
        try:
            listener = Listener(
                self.engine,
                listener_door(settings, self.engine.limits, self.engine.admission),
                settings.address,
                TlsListener(listener_files(settings), settings.label) if settings.tls is not None else None,
                [ipaddress.ip_network(network) for network in settings.proxies],
                int(settings.mode, 8),
            )
            await listener.open()
        except TlsError as error:
            raise StartError(f"listener {settings.label}: tls.{error.key}: {error}") from None
        except OSError as error:
            raise StartError(why_not_open(settings.bind, error)) from None
        self._listeners.append(listener)
        self.addresses += listener.addresses
        for address in listener.addresses:
            place = address if isinstance(address, str) else join_address(*address)
            kind = f"{settings.type}, {settings.name}" if settings.name else settings.type
            self.places.append(f"{place} ({kind})")

    async def _open_socket(self) -> None:
        """Where `geomq status` and `geomq reload` ask: a node serves without it, too."""
        if self._folder is None:
            return
        sock = NodeSocket(self.config.node.data, self.answers)
        try:
            await sock.open()
        except OSError as error:
            logger.warning("`geomq status` cannot ask this node: node.data: %s", error.strerror or error)
        else:
            self._socket = sock

    async def _open_rules(self, config: NodeConfig) -> None:
        """The rules and the local history, where any are configured: others need not pay for them."""
        plugins = config.plugins
        if not (plugins.ingress or plugins.egress or plugins.store):
            return
        from plugins.host.cache import CompiledCache
        from plugins.post import Workers
        from plugins.stages import Stages
        from plugins.store.rule_state import StateError, StateStore

        await self._open_history(config)
        data, entries = config.node.data, rule_entries(config)
        if config.durability == "commit":
            open_it = partial(asyncio.to_thread, StateStore, data / "rules.db")
            try:
                self._memory = await self._with_room(data, open_it, StateError)
            except StateError as error:
                raise StartError(str(error)) from None
            self._memory.forget_all_but({entry.name for entry in entries})
        cache = CompiledCache(data / "compiled") if config.durability == "commit" else None
        # A rule's thread waits for the interpreter lock, too.
        sys.setswitchinterval(_SWITCH_INTERVAL)
        workers = Workers(self._loop)
        self._stages = Stages(entries, self._history, self._memory, cache, place_of(config), workers)

    async def _open_history(self, config: NodeConfig) -> None:
        """What `store` rules fill, where there are any; one that is open already gets its bounds."""
        bounds, data = config.plugins.history, config.node.data
        if not config.plugins.store:
            return
        if self._history is not None:
            self._history.bound(bounds.retention, bounds.max_bytes)
            return
        from plugins.store.history import History, HistoryError

        if self._folder is None:
            self._folder = _take_folder(data, needed=True)
        open_it = partial(asyncio.to_thread, History, data / "history.db", bounds.retention, bounds.max_bytes)
        try:
            self._history = await self._with_room(data, open_it, HistoryError)
        except HistoryError as error:
            raise StartError(str(error)) from None

    async def _with_room(self, folder: Path, work: Callable[[], Awaitable[T]], *errors: type[Exception]) -> T:
        """A node that starts waits for room on its disk; one that runs has clients already, who do not wait."""
        return await (with_room(folder, work, *errors) if self._ticker is None else work())

    async def _close_history(self) -> None:
        history, self._history = self._history, None
        if history is not None:
            await asyncio.to_thread(history.close)

    async def _open_mesh(self, loop: asyncio.AbstractEventLoop) -> None:
        from edge_mesh.link import MeshError
        from edge_mesh.mesh import ZenohMesh

        sys.setswitchinterval(_SWITCH_INTERVAL)
        mesh = ZenohMesh(
            mesh_settings(self.config),
            EngineFace(self.engine, loop, self._marks),
            self._stages,
            self._history.query if self._history else None,
            self.status,
        )
        mesh.on_failure = self._refuse_waiting
        try:
            await with_room(self.config.node.data, mesh.start, MeshError)
        except MeshError as error:
            raise StartError(str(error)) from None
        self._mesh = self.engine.mesh = mesh
        if self._store is not None:
            await self._resume_crossings(self._store, mesh)
        if not len(self.engine.retained):
            # Whoever subscribes before the first snapshot is there gets no retained message, and will not ask again.
            await mesh.meets(_MEETING)

    async def _resume_crossings(self, store: StoreWriter, mesh: ZenohMesh) -> None:
        """What an earlier process had taken and not handed to the mesh goes there before anything else does."""
        crossings = self.engine.crossings = Crossings(store, mesh, store.last_crossing())
        done = asyncio.Event()
        crossings.resume(lambda topic: self.engine.subscriptions.route(topic).nodes, done.set)
        await done.wait()

    async def _tick_forever(self, loop: asyncio.AbstractEventLoop) -> None:
        next_figures = 0.0
        due = loop.time()
        while True:
            now = loop.time()
            self.engine.overloaded(self._load.look(now - due, now), now)
            self.engine.tick(now, time.time())
            if self._stages is not None:
                self._stages.tick(time.time())
            self._refresh()
            if self.config.mqtt.sys_interval and now >= next_figures:
                next_figures = now + self.config.mqtt.sys_interval
                self._sys.publish(now - self._started, self.status(), now)
            due = loop.time() + _TICK
            await asyncio.sleep(_TICK)

    def _take_turns_soon(self) -> None:
        # Behind whatever else has arrived by then.
        self._loop.call_soon(lambda: self.engine.take_turns(self._loop.time()))

    def _refuse_waiting(self) -> None:
        """The outbox's disk does not take what others wait for; the store's may, and has not been asked."""
        self.engine.roster.refuse_waiting()
        if self._store is not None:
            self._store.drop_refused()

    def _note_room(self, short: bool) -> None:
        assert self._store is not None
        self._store.short = short
        if short:
            logger.error(
                "the disk of %s is nearly full: what has to be kept is refused", self.config.node.data
            )
        else:
            logger.warning("the disk of %s has room again", self.config.node.data)

    def _refresh(self) -> None:
        """Take in what has changed on disk."""
        self._journal.tick()
        if self._room is not None and self._room.look():
            self._note_room(self._room.short)
        changed = [gate for gate in self._gates if gate.refresh()]
        if changed:
            self.engine.rights.changed()
        for listener in self._listeners:
            if listener.tls is not None:
                listener.tls.refresh()

    async def reconfigure(self, new: NodeConfig) -> Outcome:
        """Take over what of another configuration can hold at once."""
        change = compare(self.config, new)
        changes_rules = any(key.startswith("plugins.") for key in change.live)
        if changes_rules:
            # Before the link: who is reached by it must not hear what the new rules keep back.
            try:
                await self._take_rules(change.config)
            except StartError as error:
                return Outcome(mistakes=[str(error)])
        if self._mesh is not None:
            from edge_mesh.link import MeshError

            try:
                await self._mesh.reconfigure(mesh_settings(change.config))
            except MeshError as error:
                if changes_rules:
                    await self._take_rules(self.config)
                return Outcome(mistakes=[str(error)])
        self.config = change.config
        if self._stages is not None:
            self._stages.stand(place_of(change.config))
        self._take_limits(change.config)
        logging.getLogger().setLevel(change.config.log.level.upper())
        unready = self._stages.unready() if self._stages is not None else {}
        return Outcome(change.live, change.waiting, rules=unready)

    async def _take_rules(self, config: NodeConfig) -> None:
        if self._stages is not None:
            await self._open_history(config)
            self._stages.history = self._history
            await self._stages.renew(rule_entries(config))
        else:
            await self._open_rules(config)
            if self._stages is not None:
                self._stages.surroundings = RulesFace(self.engine, self._loop)
                self.engine.have_rules(self._stages)
                if self._mesh is not None:
                    self._mesh.have_rules(self._stages)
        history = self._history if config.plugins.store else None
        if self._mesh is not None:
            self._mesh.have_history(history.query if history else None)
        if history is None and self._stages is not None:
            self._stages.history = None
            await self._close_history()

    def _take_limits(self, config: NodeConfig) -> None:
        limits = node_limits(config)
        if limits != self.engine.limits:
            changes = [(self.engine.limits, limits)]
            for listener, settings in zip(self._listeners, config.listeners, strict=True):
                own = listener_limits(settings, limits)
                if own is not None and listener.door.limits is not None:
                    changes.append((listener.door.limits, own))
                    listener.door.limits = own
            change_limits(self.engine, changes)
        self._bans.change(*ban_terms(config))
        if self._room is not None:
            self._room.reserve = config.limits.disk_reserve
        self._load.change(config.limits.overload_memory, config.limits.overload_lag)

    async def stop(self) -> None:
        """Stop in the reverse order: no new clients, then the clients, then the mesh, then the disk."""
        if self._socket is not None:
            self._socket.close()
        for listener in self._listeners:
            listener.close()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        if hasattr(self, "engine"):
            self.engine.stop(self._loop.time())
        for gate in self._gates:
            await gate.close()
        if self._stages is not None:
            # What was published may still be on its way to the other nodes.
            await self._stages.drain(_DRAIN)
        if self._mesh is not None:
            if self.engine.crossings is not None:
                self.engine.crossings.stop()
            await self._mesh.stop()
        if self._stages is not None:
            await self._stages.stop()
        if self._memory is not None:
            await asyncio.to_thread(self._memory.close)
        await self._close_history()
        for listener in self._listeners:
            await listener.wait_closed()
        if self._store is not None:
            await self._store.close()
        if self._folder is not None:
            self._folder.close()

    async def _tell_status(self) -> dict[str, Any]:
        return self.status()

    def status(self) -> dict[str, Any]:
        """What the node knows about itself, ready for JSON."""
        engine = self.engine
        status: dict[str, Any] = {
            "node": self.config.node.name,
            "region": self.config.node.region,
            "version": __version__,
            "uptime": round(self._loop.time() - self._started, 1),
            "clients": engine.roster.connected,
            "sessions": len(engine.roster),
            "subscriptions": engine.subscriptions.count,
            "retained": len(engine.retained),
            "counters": engine.stats.as_dict(),
            "mesh": None,
            "peers": [],
            "regions": [],
            "handed_on": 0,
            "refused": False,
            "kept_back": 0,
            "plugins": [],
            "history": None,
        }
        if self._mesh is not None:
            from edge_mesh.keys import PROTOCOL_VERSION

            status["mesh"] = {
                "protocol": PROTOCOL_VERSION,
                "outbox": self._mesh.outbox_status(),
                "forgotten": self._mesh.forgotten(),
                "retained_withheld": self._mesh.retained_withheld,
            }
            status["peers"] = [peer.as_dict() for peer in self._mesh.peers()]
            status["regions"] = [region.as_dict() for region in self._mesh.regions()]
            status["handed_on"] = self._mesh.handed_on
            status["refused"] = self._mesh.refused
            status["kept_back"] = self._mesh.kept_back
        if self._stages is not None:
            status["plugins"] = self._stages.counters()
        if self._history is not None:
            status["history"] = self._history.stats()
        return status


def _take_folder(path: Path, needed: bool) -> DataFolder | None:
    """The node's folder; one that keeps nothing there does without it where it has to."""
    try:
        return DataFolder(path)
    except FolderError as error:
        if needed:
            raise StartError(f"node.data: {error}; `durability: memory` needs no folder") from None
        logger.warning("`geomq status` and `geomq reload` cannot reach this node: node.data: %s", error)
        return None
