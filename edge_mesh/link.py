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

from edge_mesh.link_config import client_values, explain, node_values, short
from edge_mesh.settings import MeshSettings, MeshTls

logger = logging.getLogger("geomq.mesh.link")

CLOSE_SECONDS = 5.0
_REOPEN_PAUSE = 0.3
"""Seconds between two sessions: a router that is back sooner may not be told what its neighbours had declared
(see :meth:`Link.redeclare`)."""
_REOPEN_RETRY = 1.0
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
        self._asked: set[Replies] = set()

    async def _open(self, config: zenoh.Config) -> None:
        self._session = await asyncio.to_thread(zenoh.open, config)
        self._sender = Sender("queries")

    async def close(self) -> None:
        """Close the session; gives up waiting after :data:`CLOSE_SECONDS`."""
        self._closed = True
        await self._close()

    async def _close(self) -> None:
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
        self._asked.add(replies)
        replies.finished.add_done_callback(lambda _: self._asked.discard(replies))

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
            await self._open(_config(client_values(connect, tls, timeout)))
        except zenoh.ZError as error:
            raise MeshError(f"no node answers at {', '.join(connect)}: {short(str(error))}") from None


class Link(_Session):
    """A node's session. Methods are called on the event loop."""

    def __init__(self, settings: MeshSettings, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._settings = settings
        self._living: dict[str, Callable[[tuple[str, bool]], None]] = {}
        self._recipes: list[Callable[[], Any]] = []
        self._declared: list[Any] = []
        self._token: zenoh.LivelinessToken | None = None
        self._token_key = ""

    async def open(self) -> None:
        """Open the session; MeshError says what is wrong, as a taken port."""
        try:
            await self._open(_config(node_values(self._settings)))
        except zenoh.ZError as error:
            raise MeshError(explain(str(error), self._settings)) from None

    async def reopen(self, settings: MeshSettings, token_key: str) -> None:
        """Close the session and open one with other settings, for Zenoh takes none while a session is open.

        For those that subscribe and watch it is as if the link had been cut: every token goes, and comes again.
        MeshError where the new settings cannot be used; then the session has the old ones again.
        """
        self._lose_everybody()
        has_token = self._token is not None
        old_settings, old_key = self._settings, self._token_key
        self.withdraw_token()
        await self._close()
        await asyncio.sleep(_REOPEN_PAUSE)
        failure: MeshError | None = None
        self._settings = settings
        try:
            await self.open()
        except MeshError as error:
            failure = error
            self._settings, token_key = old_settings, old_key
            await self._open_at_last()
        self._declared = [recipe() for recipe in self._recipes]
        if has_token:
            self.declare_token(token_key)
        if failure is not None:
            raise failure

    async def _open_at_last(self) -> None:
        """Open the session with settings that were good before: what is in the way has to go away some time."""
        while True:
            try:
                await self.open()
                return
            except MeshError as error:
                logger.error("trying again: %s", error)
                await asyncio.sleep(_REOPEN_RETRY)

    def _lose_everybody(self) -> None:
        """What the session received and nobody has seen yet is forgotten; what it was asked has no answer."""
        self._inbox.clear()
        self._inbox_bytes = 0
        for replies in list(self._asked):
            replies.finish(None)
        living, self._living = self._living, {}
        for key, receive in living.items():
            receive((key, False))

    # -- declaring --------------------------------------------------------------------------------------

    def subscribe(self, key: str, receive: Callable[[tuple[str, bytes]], None]) -> None:
        """``receive((key, payload))`` on the loop for every put."""

        def on_sample(sample: zenoh.Sample) -> None:
            payload = sample.payload.to_bytes()
            if self._inbox_bytes + len(payload) > _INBOX_BYTES:
                self.overflowed += 1
                return
            self._push(receive, (str(sample.key_expr), payload), len(payload))

        self._declare(lambda: self._open_session.declare_subscriber(key, on_sample))

    def watch_tokens(self, key: str, receive: Callable[[tuple[str, bool]], None]) -> None:
        """``receive((key, alive))`` on the loop for every liveliness token that is there, comes or goes."""

        def tell(token: tuple[str, bool]) -> None:
            name, alive = token
            if alive:
                self._living[name] = receive
            else:
                self._living.pop(name, None)
            receive(token)

        def watch() -> Any:
            session = self._open_session

            def on_sample(sample: zenoh.Sample) -> None:
                # A session that is being closed may still tell of nodes, which nobody would take back later.
                if session is self._session:
                    self._push(tell, (str(sample.key_expr), sample.kind == zenoh.SampleKind.PUT), 0)

            return session.liveliness().declare_subscriber(key, on_sample, history=True)

        self._declare(watch)

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

        def offer() -> Any:
            sender = self._sender
            assert sender is not None
            return self._open_session.declare_queryable(
                key, lambda query: self._push(receive, Query(query, key, sender), 0)
            )

        self._declare(offer)

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

    @staticmethod
    def sender(name: str) -> Sender:
        """A thread for puts that may block."""
        return Sender(name)

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


def write_log(directives: str) -> None:
    """Have Zenoh write its log to standard output: what RUST_LOG says, or else these directives (``target=level``)."""
    zenoh.init_log_from_env_or(directives)


def _config(values: dict[str, Any]) -> zenoh.Config:
    config = zenoh.Config()
    for key, value in values.items():
        try:
            config.insert_json5(key, json.dumps(value))
        except zenoh.ZError as error:
            raise MeshError(f"Zenoh does not take {key} = {value!r}: {short(str(error))}") from None
    return config


def _nothing() -> None:
    """Nobody waits for the end of a burst."""
