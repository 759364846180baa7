"""Zenoh, and the only import of it: a session, what it receives brought to the event loop, what it sends.

Zenoh calls back on its own threads and must not be called from there: callbacks only append to a queue and
wake the loop, once a burst. Puts that may block are made by :class:`Sender` threads, never by the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import zenoh

from edge_mesh.settings import MeshSettings, MeshTls

logger = logging.getLogger("geomq.mesh.link")

CLOSE_SECONDS = 5.0
_BURST = 256
"""How many received items are handled before the loop may look at its other duties."""
_INBOX_BYTES = 64 << 20
"""What is received beyond this before the loop comes round is dropped; the durable lanes ask for it again."""


class MeshError(RuntimeError):
    """The mesh cannot be reached or joined; the text is for the operator."""


class Sender:
    """A thread that makes the puts that may block, in order."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._submitted = 0
        self._done = 0
        self._thread = threading.Thread(target=self._run, name=f"geomq-send-{name}", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], object]) -> None:
        """Run it on the thread, after everything submitted before; a ZError is logged, not raised."""
        self._submitted += 1
        self._calls.put(call)

    @property
    def waiting(self) -> int:
        """Calls that are not over."""
        return self._submitted - self._done

    def stop(self) -> None:
        """End the thread after what was submitted; does not wait."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except zenoh.ZError as error:
                # The session is closing, or the link broke: what is durable is sent again.
                logger.debug("not sent: %s", error)
            self._done += 1


class Query:
    """A question that another node asked. Answered from a sender thread, finished exactly once."""

    __slots__ = ("_key", "_query", "_sender", "payload")

    def __init__(self, query: zenoh.Query, key: str, sender: Sender) -> None:
        self._query = query
        self._key = key
        self._sender = sender
        payload = query.payload
        self.payload = payload.to_bytes() if payload is not None else b""

    def reply(self, payload: bytes) -> None:
        """A part of the answer."""
        self._sender.submit(lambda: self._query.reply(self._key, payload))

    def fail(self, text: str) -> None:
        """Answer that there is no answer."""
        self._sender.submit(lambda: self._query.reply_err(text.encode()))

    def finish(self) -> None:
        """The answer is complete."""
        self._sender.submit(self._query.drop)


class Replies:
    """What came in answer to a question, on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answers: list[tuple[str, bytes]] = []
        """(key, payload)."""
        self.errors: list[str] = []
        self.finished: asyncio.Future[None] = loop.create_future()

    def add(self, reply: tuple[str, bytes] | str) -> None:
        """A part of an answer, or the text of an error."""
        if isinstance(reply, str):
            self.errors.append(reply)
        else:
            self.answers.append(reply)

    def finish(self, _: None) -> None:
        """Nothing more will come."""
        if not self.finished.done():
            self.finished.set_result(None)


class _Session:
    """One Zenoh session, and the way from its threads to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._session: zenoh.Session | None = None
        self._inbox: deque[tuple[Callable[[Any], None], Any, int]] = deque()
        self._inbox_bytes = 0
        self._awake = False
        self._closed = False
        self.overflowed = 0
        """How many envelopes were dropped because the loop did not keep up."""
        self.after_burst: Callable[[], None] = _nothing
        """Called each time a burst of received items has been handled."""
        self._sender: Sender | None = None

    async def _open(self, config: zenoh.Config) -> None:
        self._session = await asyncio.to_thread(zenoh.open, config)
        self._sender = Sender("queries")

    async def close(self) -> None:
        """Close the session; gives up waiting after :data:`CLOSE_SECONDS`."""
        self._closed = True
        session, self._session = self._session, None
        if self._sender is not None:
            self._sender.stop()
        if session is None:
            return
        done = asyncio.Event()
        loop = self._loop

        def close() -> None:
            with contextlib.suppress(zenoh.ZError):
                session.close()  # type: ignore[no-untyped-call]
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set)

        # A thread of its own, and a daemon: closing has been seen to hang.
        threading.Thread(target=close, name="geomq-close", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), CLOSE_SECONDS)
        except TimeoutError:
            logger.warning("Zenoh did not close within %g s", CLOSE_SECONDS)

    def ask(self, key: str, payload: bytes, timeout: float) -> Replies:
        """Ask all queryables that match the key; what comes is added to the result, on the loop."""
        replies = Replies(self._loop)
        session = self._session
        if session is None or self._sender is None:
            replies.finish(None)
            return replies

        def on_reply(reply: zenoh.Reply) -> None:
            sample = reply.ok
            if sample is not None:
                self._push(replies.add, (str(sample.key_expr), sample.payload.to_bytes()), 0)
            elif reply.err is not None:
                self._push(replies.add, reply.err.payload.to_bytes().decode(errors="replace"), 0)

        def on_end() -> None:
            self._push(replies.finish, None, 0)

        def get() -> None:
            try:
                session.get(
                    key,
                    zenoh.handlers.Callback(on_reply, on_end),
                    target=zenoh.QueryTarget.ALL,
                    consolidation=zenoh.ConsolidationMode.NONE,
                    timeout=timeout,
                    payload=payload,
                )
            except zenoh.ZError:
                on_end()
                raise

        self._sender.submit(get)
        return replies

    # -- from Zenoh's threads to the loop ---------------------------------------------------------------

    def _push(self, receive: Callable[[Any], None], item: Any, size: int) -> None:
        self._inbox.append((receive, item, size))
        self._inbox_bytes += size
        if not self._awake:
            self._awake = True
            # The loop may be closed already when the last callbacks come.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        inbox = self._inbox
        self._awake = False
        for _ in range(_BURST):
            try:
                receive, item, size = inbox.popleft()
            except IndexError:
                break
            self._inbox_bytes -= size
            if not self._closed:
                try:
                    receive(item)
                except Exception:
                    # One bad item must not keep the others from being heard.
                    logger.exception("what the mesh received could not be handled")
        if not self._closed:
            self.after_burst()
        if inbox and not self._awake:
            self._awake = True
            self._loop.call_soon(self._drain)

    @property
    def _open_session(self) -> zenoh.Session:
        if self._session is None:
            raise MeshError("the session is not open")
        return self._session


class QueryClient(_Session):
    """A session to ask a node's mesh something, from outside."""

    async def open(self, connect: tuple[str, ...], tls: MeshTls | None, timeout: float) -> None:
        """Connect to one of the endpoints; MeshError where none answers within ``timeout`` seconds."""
        try:
            await self._open(make_client_config(connect, tls, timeout))
        except zenoh.ZError as error:
            raise MeshError(f"no node answers at {', '.join(connect)}: {_short(str(error))}") from None


class Link(_Session):
    """A node's session. Methods are called on the event loop."""

    def __init__(self, settings: MeshSettings, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._settings = settings
        self._recipes: list[Callable[[], Any]] = []
        self._declared: list[Any] = []
        self._token: zenoh.LivelinessToken | None = None
        self._token_key = ""

    async def open(self) -> None:
        """Open the session; MeshError says what is wrong, as a taken port."""
        try:
            await self._open(make_config(self._settings))
        except zenoh.ZError as error:
            raise MeshError(explain(str(error), self._settings)) from None

    # -- declaring --------------------------------------------------------------------------------------

    def subscribe(self, key: str, receive: Callable[[tuple[str, bytes]], None]) -> None:
        """``receive((key, payload))`` on the loop for every put."""

        def on_sample(sample: zenoh.Sample) -> None:
            payload = sample.payload.to_bytes()
            if self._inbox_bytes + len(payload) > _INBOX_BYTES:
                self.overflowed += 1
                return
            self._push(receive, (str(sample.key_expr), payload), len(payload))

        session = self._open_session
        self._declare(lambda: session.declare_subscriber(key, on_sample))

    def watch_tokens(self, key: str, receive: Callable[[tuple[str, bool]], None]) -> None:
        """``receive((key, alive))`` on the loop for every liveliness token that is there, comes or goes."""

        def on_sample(sample: zenoh.Sample) -> None:
            self._push(receive, (str(sample.key_expr), sample.kind == zenoh.SampleKind.PUT), 0)

        liveliness = self._open_session.liveliness()
        self._declare(lambda: liveliness.declare_subscriber(key, on_sample, history=True))

    def declare_token(self, key: str) -> None:
        """Be alive under this key."""
        self._token_key = key
        self._token = self._open_session.liveliness().declare_token(key)

    def withdraw_token(self) -> None:
        """Be alive no longer."""
        token, self._token = self._token, None
        if token is not None:
            with contextlib.suppress(zenoh.ZError):
                token.undeclare()  # type: ignore[no-untyped-call]

    def answer(self, key: str, receive: Callable[[Query], None]) -> None:
        """``receive(query)`` on the loop for every question that is asked under this key."""
        sender = self._sender
        assert sender is not None

        def on_query(query: zenoh.Query) -> None:
            self._push(receive, Query(query, key, sender), 0)

        session = self._open_session
        self._declare(lambda: session.declare_queryable(key, on_query))

    def redeclare(self) -> None:
        """Declare everything anew, the token last.

        A router that comes back within about 200 ms of its leaving may never be told of what its neighbours
        had declared before (seen with Zenoh 1.10); it is told of what they declare now.
        """
        had_token = self._token is not None
        self.withdraw_token()
        declared, self._declared = self._declared, []
        for declaration in declared:
            with contextlib.suppress(zenoh.ZError):
                declaration.undeclare()
        self._declared = [recipe() for recipe in self._recipes]
        if had_token:
            self.declare_token(self._token_key)

    def _declare(self, recipe: Callable[[], Any]) -> None:
        self._recipes.append(recipe)
        self._declared.append(recipe())

    def far_ends(self) -> list[str]:
        """The endpoints at the other ends of all links. Callable from any thread."""
        session = self._session
        try:
            return [str(link.dst) for link in session.info.links()] if session is not None else []
        except zenoh.ZError:
            return []

    # -- sending ----------------------------------------------------------------------------------------

    def put_soon(self, key: str, payload: bytes, priority: zenoh.Priority) -> None:
        """Send without waiting; dropped where the link is full."""
        session = self._session
        if session is not None:
            try:
                session.put(key, payload, congestion_control=zenoh.CongestionControl.DROP, priority=priority)
            except zenoh.ZError as error:
                logger.debug("not sent: %s", error)

    def put_surely(self, sender: Sender, key: str, payload: bytes, priority: zenoh.Priority) -> None:
        """Send from the sender's thread, which waits while the link is full."""
        session = self._session
        if session is not None:
            sender.submit(
                lambda: session.put(
                    key, payload, congestion_control=zenoh.CongestionControl.BLOCK, priority=priority
                )
            )

    def announce(self, key: str, payload: bytes) -> None:
        """Tell all nodes, not to be dropped on the way to the next one."""
        assert self._sender is not None
        self.put_surely(self._sender, key, payload, CONTROL)


LIVE = zenoh.Priority.DATA
DURABLE = zenoh.Priority.DATA_LOW
CONTROL = zenoh.Priority.INTERACTIVE_LOW


def make_config(settings: MeshSettings) -> zenoh.Config:
    """The session's configuration; MeshError where Zenoh does not take a setting."""
    values: dict[str, Any] = {
        "mode": settings.mode,
        "listen/endpoints": list(settings.listen),
        "listen/exit_on_failure": True,
        "listen/timeout_ms": 0,
        "connect/endpoints": list(settings.connect),
        # Without time limit and in the background: a node may start long before its neighbours.
        "connect/timeout_ms": -1,
        "connect/exit_on_failure": False,
        "connect/retry": {"period_init_ms": 200, "period_max_ms": 2000, "period_increase_factor": 1.5},
        # Half a second by default in which opening waits for whoever scouting finds; they come all the same.
        "scouting/delay": 0,
        "scouting/multicast/enabled": settings.scouting,
        "scouting/multicast/address": settings.scouting_address,
        # By default routers do not connect to routers that scouting found.
        "scouting/multicast/autoconnect": {
            "router": ["router", "peer"],
            "peer": ["router", "peer"],
            "client": ["router"],
        },
        "scouting/multicast/autoconnect_strategy": {
            "router": {"to_router": "greater-zid", "to_peer": "always"},
            "peer": {"to_router": "always", "to_peer": "greater-zid"},
        },
        "transport/link/tx/lease": int(settings.lease_seconds * 1000),
        # Two batches of 64 KB are the default: too few for bursts of envelopes.
        "transport/link/tx/queue/size/data": 16,
        "transport/link/tx/queue/size/data_low": 8,
        "transport/link/tx/queue/congestion_control/drop/wait_before_drop": 200,
        "transport/link/tx/queue/congestion_control/drop/max_wait_before_drop_fragments": 2000,
        # A slow link is not a broken one; broken ones are found by the lease.
        "transport/link/tx/queue/congestion_control/block/wait_before_close": 30_000_000,
        "transport/unicast/compression/enabled": settings.compression,
        "transport/shared_memory/enabled": False,
    }
    if settings.tls is not None:
        values.update(_tls_values(settings.tls))
    return _config(values)


def make_client_config(connect: tuple[str, ...], tls: MeshTls | None, timeout: float) -> zenoh.Config:
    """For a short-lived session to ask a node something."""
    values: dict[str, Any] = {
        "mode": "client",
        "connect/endpoints": list(connect),
        "connect/timeout_ms": int(timeout * 1000),
        "connect/exit_on_failure": True,
        "scouting/multicast/enabled": False,
        "transport/shared_memory/enabled": False,
    }
    if tls is not None:
        values.update(_tls_values(tls))
    return _config(values)


def _tls_values(tls: MeshTls) -> dict[str, Any]:
    root = "transport/link/tls/"
    return {
        root + "root_ca_certificate": str(tls.ca),
        root + "listen_certificate": str(tls.certificate),
        root + "listen_private_key": str(tls.key),
        root + "connect_certificate": str(tls.certificate),
        root + "connect_private_key": str(tls.key),
        root + "enable_mtls": tls.mutual,
        root + "verify_name_on_connect": tls.verify_name,
    }


def _config(values: dict[str, Any]) -> zenoh.Config:
    config = zenoh.Config()
    for key, value in values.items():
        try:
            config.insert_json5(key, json.dumps(value))
        except zenoh.ZError as error:
            raise MeshError(f"Zenoh does not take {key} = {value!r}: {_short(str(error))}") from None
    return config


def explain(error: str, settings: MeshSettings) -> str:
    """What a failure to open a session means, for an operator."""
    where = ", ".join(settings.listen) or "nothing"
    if "Address already in use" in error:
        return f"the mesh cannot listen on {where}: the port is taken"
    if "Cannot assign requested address" in error:
        return f"the mesh cannot listen on {where}: this machine does not have that address"
    if "Permission denied" in error:
        return f"the mesh cannot listen on {where}: the system does not permit it"
    return f"the mesh cannot start (listen: {where}): {_short(error)}"


def _short(error: str) -> str:
    """A Zenoh error without the places in its sources."""
    return error.split(" at /", 1)[0].strip().rstrip(".")


def _nothing() -> None:
    """Nobody waits for the end of a burst."""
