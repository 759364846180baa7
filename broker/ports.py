"""What the engine depends on. It knows these names, never who stands behind them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from broker.limits import Limits
from broker.message import Delivery, Message, Run
from broker.protocol.packets import PublishRun

if TYPE_CHECKING:
    from broker.admission import Admission
    from broker.protocol.packets import Will
    from broker.subscriptions import Held


class Stage(IntEnum):
    """Where in a message's way a rule stands. The values are the bits of :meth:`Pipeline.stages`."""

    INGRESS = 1
    """What a device published, before anyone hears it."""
    EGRESS = 2
    """At the node's boundary: local subscribers hear the raw message, the mesh the result."""
    STORE = 4
    """What goes into the local history."""


class Failure(NamedTuple):
    """Which rule could not work on a message, and why, in words without anything that was in it."""

    rule: str
    reason: str


class Processed(NamedTuple):
    """What a stage made of a batch."""

    messages: list[Message | None]
    """One entry an input message, in order: the same object, a changed one, or None where it was dropped."""
    emitted: list[Message]
    """Messages that a rule published on its own account."""
    later: frozenset[int] = frozenset()
    """The places of messages on which rules are still working; their entries say nothing."""
    failed: Mapping[int, Failure] | None = None
    """The places of messages that were dropped because a rule failed on them, if there are any."""
    more: bool = False
    """Whether they have emitted so much that the rest follows, without messages, in further calls of :data:`Later`."""


Later = Callable[[Sequence[Message], Processed, float], None]
"""Called with messages of a batch on which rules went on working, what became of them, and the wall clock.

Where there is :attr:`Processed.more` it is called again and again until there is not, with emitted messages alone.
"""


RunResult = list[bytes | None] | Processed
"""What the payloads of messages are to be, None for one that is dropped; an empty list where all pass as they are.
Processed where the rules have done more than that."""

LaterRun = Callable[[RunResult, float], None]
"""Called with what has become of messages, and the wall clock; again where there is :attr:`Processed.more`."""


class Pipeline(Protocol):
    """The rules that operators attached to topics. All calls are made on the event loop."""

    @property
    def behind(self) -> bool:
        """Whether so much is being worked on that publishers should wait."""

    def stages(self, topic: str) -> int:
        """The :class:`Stage` bits of the stages that have a rule for this topic. Callers cache it."""

    def run(
        self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool = False
    ) -> Processed:
        """Run one stage over messages whose topics have that stage; ``now`` is wall-clock seconds.

        ``answer``: they were published before, and are told to a node that asks for them. They leave no trace in what
        rules remember, as far as these can tell (docs/plugins.md), and cause nothing besides.

        What would hold the event loop is done elsewhere: ``then`` is called for it later, never from in here, in one
        part or several. Messages of one topic stay in order, over all batches. Never raises: what fails is dropped
        or passed as the rule's ``on_error`` says.
        """

    def at_once(self, topic: str) -> int:
        """How many messages of a topic :meth:`run_ingress` may be given, for the event loop not to be held up.

        -1 where it has to be :meth:`run`.
        """

    def run_ingress(
        self, run: PublishRun, topic: str, publisher: str, user: str, now: float
    ) -> RunResult | None:
        """:meth:`run` of the ingress stage over QoS 0 messages of one topic, with their packets as they came.

        None where nothing has been done: they have to be run. Never raises.
        """

    def run_ingress_later(
        self, run: PublishRun, topic: str, publisher: str, user: str, then: LaterRun
    ) -> None:
        """The same for more of them than may be worked on at once, in order with all else."""


class Outbound(NamedTuple):
    """A message on its way out of the node, and the nodes whose interest it met."""

    message: Message
    nodes: tuple[str, ...]


class Mesh(Protocol):
    """The other nodes, as the engine sees them. All calls are made on the event loop and return at once."""

    def interest_added(self, topic_filter: str) -> None:
        """The first local session subscribed to this filter."""

    def interest_removed(self, topic_filter: str) -> None:
        """The last local session left this filter."""

    def forward(self, batch: Sequence[Outbound], on_safe: Callable[[], None] | None) -> bool:
        """Take messages over for other nodes; the egress rules run in here, once a message.

        A retained message goes to every node, whatever its ``nodes``. Returns True when the batch holds
        messages above QoS 0 that are not yet safe on disk: ``on_safe`` is then called once, later, on the
        event loop, when this node can no longer lose them. So it does where rules are still working on the batch,
        whatever its QoS. Returns False when there is nothing to wait for; ``on_safe`` is then not called.
        """

    def forward_run(self, run: Run, nodes: tuple[str, ...]) -> None:
        """:meth:`forward` for messages of one topic at QoS 0, which may be lost on the way."""

    def publish_emitted(self, messages: Sequence[Message]) -> None:
        """Send to whom they concern, past the egress rules, what these said without a message's occasion."""

    @property
    def failing(self) -> bool:
        """Whether the disk does not take what has to wait for other nodes."""

    def has_to_keep(self, nodes: tuple[str, ...]) -> bool:
        """Whether a message above QoS 0 for these nodes has to wait on disk, because one of them is away."""

    def refuses(self, nodes: Sequence[str], retain: bool, size: int) -> bool:
        """Whether a message above QoS 0 would have to wait for one of these nodes and there is no room for it.

        ``retain`` as for :meth:`forward`; ``size`` is that of the payload: unless it is refused, room is kept for it
        until :meth:`forward` is given it, or for a while. A message that is handed over all the same is taken, but its
        ``on_safe`` waits until there is room.
        """

    def stamp(self) -> int:
        """A new hybrid logical clock stamp, greater than every one seen so far."""

    @property
    def crossed(self) -> Collection[int]:
        """The numbers (:attr:`OnceMessage.crossing`) of messages that earlier processes have handed over."""

    def forget_crossed(self, numbers: Sequence[int]) -> None:
        """These will not be handed over again."""


class LocalNode(Protocol):
    """The engine, as the mesh sees it. All calls are made on the event loop."""

    def remote_interest(self, node: str, added: Iterable[str], removed: Iterable[str]) -> None:
        """Another node's interest changed. Adding what is there, or removing what is not, is harmless."""

    def remote_gone(self, node: str) -> None:
        """Forget all interest of a node."""

    def deliver_from_mesh(self, batch: Sequence[Message | Run]) -> None:
        """Deliver what a lane brought to local sessions only, in order; retained ones are stored if newer."""

    @property
    def crowded(self) -> bool:
        """Whether clients who are here have as much to take as they can: what the durable lanes bring should wait."""

    def marks(self) -> dict[str, tuple[int, int]]:
        """(Epoch, sequence) up to which earlier processes have heard other nodes' durable lanes, by sender."""

    def heard(self, sender: str, epoch: int, sequence: int) -> None:
        """What a node's durable lane brought up to here has been delivered; to be told before anything else happens."""

    def commit(self, on_safe: Callable[[], None]) -> None:
        """Have ``on_safe`` called once, later, when this node can no longer lose what it has heard."""

    def retained_from_mesh(self, batch: Sequence[Message]) -> None:
        """Store what a snapshot of retained messages brought, if newer; nobody hears it as a publication.

        The lanes deliver each publication exactly once; a snapshot may tell of it before or after.
        """

    def local_filters(self) -> Iterable[str]:
        """The distinct topic filters that local sessions hold now."""

    def retained_messages(self) -> Iterable[Message]:
        """Every retained message known here and every tombstone (an empty payload with its stamp)."""

    def retained_of(self, topics: Iterable[str]) -> Iterable[Message]:
        """Those of these topics."""


LOCAL = "local"
"""The address of a client that comes through a Unix socket: it has none."""


class Certificate(NamedTuple):
    """A client certificate that TLS has verified: DER, and the user's name where the listener reads one in it."""

    der: bytes
    name: str | None


class Peer(NamedTuple):
    """What is known of a connection before its first packet.

    ``mount_point`` is put before all topics of the client; ``limits`` and ``admission`` are its listener's, None for
    the node's.
    """

    address: str = ""
    listener: str = ""
    mount_point: str = ""
    certificate: Certificate | None = None
    limits: Limits | None = None
    admission: Admission | None = None


class Credentials(NamedTuple):
    """What a client showed at CONNECT. ``context`` is whatever the authority keeps about it."""

    client_id: str
    username: str | None
    password: bytes | None
    address: str
    listener: str
    certificate: Certificate | None = None
    context: Any = None


class Party(NamedTuple):
    """Whom a line for operators is about, as far as that is known: never what could be a secret."""

    client_id: str = ""
    username: str | None = None
    """Who the client is, or who it claims to be."""
    address: str = ""
    listener: str = ""


class Action(StrEnum):
    """What a client may be allowed to do with a topic."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    RECEIVE = "receive"


ALL_RIGHTS = 0b111111
"""Publishing at each QoS, retained and not: see :func:`right`."""


def right(qos: int, retain: bool) -> int:
    """The bit of the right to publish at a QoS."""
    return 1 << (qos << 1 | retain)


class Decision(NamedTuple):
    """An authority's answer to a CONNECT: an MQTT 5 reason code, 0x00 for welcome."""

    reason: int
    username: str | None = None
    """The name that the client goes by from now on; None for the one that it claimed."""
    context: Any = None
    """What the authority keeps about the client: the ``context`` of its credentials from now on."""
    why: str = ""
    """The refusal in words, for the operator only."""


class Step(NamedTuple):
    """What an exchange answers to a client's data [MQTT5 4.12].

    A ``reason`` of 0x80 or above refuses; ``done`` says that ``username`` is proven, and ``data`` goes with
    the welcome; otherwise ``data`` is the next challenge.
    """

    data: bytes
    done: bool = False
    reason: int = 0
    username: str | None = None
    """Where it is refused: who the client claimed to be."""
    why: str = ""
    """The refusal in words, for the operator only."""


class Exchange(Protocol):
    """One client's way through an enhanced authentication, begun anew for each re-authentication."""

    def answer(self, data: bytes) -> Step:
        """Take the client's data, empty where it sent none. Never raises; not called after the last step."""


class Authority(Protocol):
    """Who may connect, and who may publish or subscribe to what."""

    def authenticate(self, credentials: Credentials, done: Callable[[Decision], None]) -> None:
        """Decide on a CONNECT; ``done`` is called exactly once, at once or later, on the event loop."""

    def exchange(self, method: str, credentials: Credentials) -> Exchange | None:
        """Begin an enhanced authentication; None where the method is not offered."""

    guards_delivery: bool
    """Whether :meth:`may_receive` has to be asked at all."""

    def may_publish(self, credentials: Credentials, topic: str) -> int | None:
        """The rights to publish to the topic, as bits of :func:`right`; None where :meth:`decide` has to be asked.

        Callers keep the answer until :meth:`broker.rights.Rights.changed`.
        """

    def may_subscribe(self, credentials: Credentials, topic_filter: str, qos: int) -> bool | None:
        """Whether the client may hold a subscription with this filter; None as for :meth:`may_publish`."""

    def revokes(self, credentials: Credentials, topic_filter: str, qos: int) -> bool:
        """Whether a subscription that the client holds has to end: denied, and not only because nobody could tell."""

    def may_receive(self, credentials: Credentials, topic: str) -> bool | None:
        """Whether the client may get what a subscription of it matches; None as for :meth:`may_publish`."""

    def why_not(self, credentials: Credentials, action: Action, topic: str, qos: int, retain: bool) -> str:
        """For the operator: what denies this, such as the line of an access list. Asked after a denial only."""

    def decide(self, credentials: Credentials, action: Action, topic: str, done: Callable[[], None]) -> None:
        """Have a question answered; ``done`` is called once, later, on the event loop. Then the answer is known."""


class SessionTerms(NamedTuple):
    """What a session is, apart from what it holds."""

    client_id: str
    version: int
    expiry: int
    window: int
    """How many deliveries may have been sent and not acknowledged."""
    credentials: Credentials
    mount_point: str


class StoredWill(NamedTuple):
    """A will whose time has not come. ``due`` is in wall-clock seconds, 0.0 as long as its client is connected."""

    will: Will
    credentials: Credentials
    session_expiry: int
    due: float


class Stored(NamedTuple):
    """Deliveries that the disk gave back, in order."""

    deliveries: list[tuple[Delivery, bool]]
    """Each with whether it is known to have been sent."""
    complete: bool
    """Whether there was nothing more."""
    now: float
    """Wall-clock seconds."""


class StoredSession(NamedTuple):
    """A session that an earlier process left behind."""

    key: int
    terms: SessionTerms
    left_at: float
    """When its client went, wall-clock seconds; 0.0 where it was connected to the last."""
    subscriptions: list[tuple[str, Held]]
    incoming: list[int]
    releasing: list[tuple[int, int]]
    """Packet identifiers whose PUBREL is under way, with their deliveries' numbers."""
    queued: int
    queued_bytes: int
    first: int
    last: int
    """The numbers of the first and the last delivery on disk."""


class SessionStore(Protocol):
    """One session's place in the store. What is handed over is on disk after the next :meth:`Store.commit`."""

    def save(self, terms: SessionTerms, left_at: float) -> None:
        """Keep the terms; ``left_at`` is when the client went (wall-clock seconds), 0.0 while it is connected."""

    def subscribe(self, name: str, held: Held) -> None:
        """Keep a subscription; ``name`` is the filter as the client gave it."""

    def unsubscribe(self, name: str) -> None:
        """Forget a subscription."""

    def add(self, delivery: Delivery, live: bool) -> None:
        """Keep a delivery; ``live`` where it was sent at once, and its acknowledgement will likely come first."""

    def done(self, delivery: Delivery) -> None:
        """The delivery is over."""

    def sent(self, deliveries: Iterable[Delivery]) -> None:
        """These have been sent: sent again, they are duplicates."""

    def released(self, packet_id: int, delivery: Delivery) -> None:
        """The receiver has the QoS 2 message: only its identifier is owed, until :meth:`completed`."""

    def completed(self, packet_id: int) -> None:
        """The identifier is free again."""

    def received(self, packet_id: int) -> None:
        """The client has published a QoS 2 message under this identifier."""

    def forgotten(self, packet_id: int) -> None:
        """The client has released the identifier that it published under."""

    def commit(self, on_safe: Callable[[float], None]) -> None:
        """As :meth:`Store.commit`; ``on_safe`` is told the time, in wall-clock seconds."""

    def load(self, first: int, count: int, done: Callable[[Stored], None]) -> None:
        """Have ``done`` called later with the next ``count`` deliveries from a number on."""

    def end(self) -> None:
        """The session is over; nothing of it is needed."""


class Store(Protocol):
    """What outlives the process. All calls are made on the event loop and return at once."""

    owes: bool
    """Whether something was handed over that a publisher has to wait for; whoever sees to that clears it."""

    @property
    def failing(self) -> bool:
        """Whether the disk does not take what it should, or soon will not."""

    @property
    def behind(self) -> bool:
        """Whether so much waits for the disk that publishers should wait, too."""

    def retain(self, message: Message) -> None:
        """Keep a retained message, or the deletion of one (an empty payload), with the next commit."""

    def commit(self, on_safe: Callable[[], None]) -> None:
        """Have ``on_safe`` called once, later, on the event loop, when all that was handed over is safe.

        Safe is what is on disk, and a delivery that is over.
        """

    def clock_jumped(self, by: float) -> Iterable[Message]:
        """The wall clock was set by so many seconds: what is on disk keeps its time to live, and so should these."""

    def session(self, key: int = 0) -> SessionStore:
        """A session's place: a new one, or that of a session which :class:`StoredSession` told of."""

    def crossings(self) -> SessionStore:
        """The place of what is on its way to other nodes (:mod:`broker.crossings`)."""

    def will(self, client_id: str, will: StoredWill | None) -> None:
        """Keep a client's will, or forget it."""

    def mark(self, sender: str, epoch: int, sequence: int) -> None:
        """Another node's durable lane was heard up to here: kept together with what came of it."""


class Journal(Protocol):
    """What operators should know about clients, in words. Never called for each message."""

    def note(self, event: str, who: Party | None, detail: str) -> None:
        """Something happened, None for nobody in particular; ``event`` is one of few names, such as `denied`."""


class Transport(Protocol):
    """One network connection's sending side."""

    def write(self, data: bytes) -> None:
        """Send bytes; never blocks, buffers what the peer does not take."""

    def close(self) -> None:
        """Send what is buffered, then close."""

    def abort(self) -> None:
        """Close at once."""

    def pause_reading(self) -> None:
        """Stop reading from the peer."""

    def resume_reading(self) -> None:
        """Read from the peer again."""
