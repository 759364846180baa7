"""Faithful clients that come back after each crash and keep account of what was promised to them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict

from tests.protocol import wire
from tests.protocol.wire import Answer

_RETRY = 0.02
_PATIENCE = 5.0
"""Seconds in which a broker that is there answers."""
_ON_A_TOPIC = 4
_REFUSED = 0x80
"""Reason codes from here on say that nothing was done."""
_SUBSCRIBING = 65535
"""The packet identifier that publishers keep for SUBSCRIBE."""


class Device:
    """One client and its session; comes back as soon as there is somebody, until :meth:`leave`."""

    host = "127.0.0.1"
    """The broker's address."""

    def __init__(self, client_id: str, version: int, port: int) -> None:
        self.client_id = client_id
        self.version = version
        self.port = port
        self.sessions_lost = 0
        self.online = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._kept = False
        """Whether the broker has promised to keep the session."""
        self._task: asyncio.Task[None] | None = None

    def come(self) -> None:
        """Be there from now on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._stay())

    async def leave(self, politely: bool) -> None:
        """Be away from now on."""
        task, self._task = self._task, None
        if task is None:
            return
        if politely and self._writer is not None:
            self._writer.write(b"\xe0\x00")
            with contextlib.suppress(OSError):
                await self._writer.drain()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _stay(self) -> None:
        while True:
            try:
                await self._one_connection()
            except (OSError, EOFError):
                pass
            finally:
                self.online.clear()
                if self._writer is not None:
                    self._writer.transport.abort()
                    self._writer = None
            await asyncio.sleep(_RETRY)

    def _connect_packet(self) -> bytes:
        properties = wire.props((0x11, 0xFFFFFFFF)) if self.version == 5 else b""
        return wire.connect(self.client_id, self.version, clean=False, properties=properties)

    async def _one_connection(self) -> None:
        reader, self._writer = await asyncio.open_connection(self.host, self.port)
        self.send(self._connect_packet())
        self._buffer = b""
        connack, *rest = await asyncio.wait_for(self._next(reader), _PATIENCE)
        assert connack.kind == wire.CONNACK
        assert connack.reason == 0
        if self._kept and not connack.session_present:
            self.sessions_lost += 1
        self.begin(connack.session_present)
        while True:
            for answer in rest:
                self.hear(answer)
            rest = await self._next(reader)

    async def _next(self, reader: asyncio.StreamReader) -> list[Answer]:
        """At least one packet."""
        while True:
            whole = _whole_packets(self._buffer)
            if whole:
                packets, self._buffer = self._buffer[:whole], self._buffer[whole:]
                return wire.answers(packets, self.version)
            data = await reader.read(65536)
            if not data:
                raise EOFError
            self._buffer += data

    def send(self, data: bytes) -> None:
        """Send, where there is a connection."""
        if self._writer is not None and not self._writer.transport.is_closing():
            self._writer.write(data)

    def begin(self, session_present: bool) -> None:
        """The broker has accepted us."""
        raise NotImplementedError

    def hear(self, answer: Answer) -> None:
        """A packet from the broker."""
        raise NotImplementedError


class Publisher(Device):
    """Publishes numbers, at QoS 1 and 2 in turn, and retained ones; again what was not acknowledged."""

    def __init__(self, client_id: str, version: int, port: int) -> None:
        super().__init__(client_id, version, port)
        self.numbers = {"1": 0, "2": 0, "r": 0}
        """The next number for each topic."""
        self.acknowledged: dict[str, set[int]] = defaultdict(set)
        self.refused = 0
        """Messages that the broker has said it cannot keep; they are not tried again."""
        self.stopping = False
        self.window = 20
        """Messages that may be unacknowledged."""
        self.topics = "1112222r"
        """What the next message's topic is chosen from."""
        self._owed: dict[int, tuple[str, int, bool]] = {}
        """Packet identifier -> (topic, number, whether the broker has it)."""
        self._packet_id = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is owed any more."""
        return not self._owed

    @property
    def unfinished(self) -> int:
        """Messages that the broker has not brought to their end."""
        return len(self._owed)

    def may_publish(self) -> bool:
        """Whether one more may be published now, which it then is."""
        return True

    def begin(self, session_present: bool) -> None:
        """Everything that is owed, in order, then more. CONNACK promises no session yet, SUBACK does."""
        self._kept = session_present
        if not session_present:
            self.send(wire.subscribe(_SUBSCRIBING, [(f"none/{self.client_id}", 1)], self.version))
        self.online.set()
        for packet_id, (topic, number, taken) in list(self._owed.items()):
            if taken and session_present:
                self.send(wire.ack(wire.PUBREL, packet_id))
            elif taken:
                # The broker that knew of it is no more.
                del self._owed[packet_id]
            else:
                self._publish(packet_id, topic, number, session_present)
        self._go_on()

    def _go_on(self) -> None:
        while not self.stopping and len(self._owed) < self.window and self.may_publish():
            topic = random.choice(self.topics)
            number = self.numbers[topic]
            self.numbers[topic] = number + 1
            self._packet_id = self._packet_id % (_SUBSCRIBING - 1) + 1
            while self._packet_id in self._owed:
                self._packet_id = self._packet_id % (_SUBSCRIBING - 1) + 1
            self._owed[self._packet_id] = (topic, number, False)
            self._publish(self._packet_id, topic, number, False)

    def retained_topic(self, number: int) -> str:
        """A few numbers follow each other on a topic, then it is left as it is: nothing makes good what was lost."""
        return f"r/{self.client_id}/{number // _ON_A_TOPIC}"

    def _publish(self, packet_id: int, topic: str, number: int, dup: bool) -> None:
        qos = 2 if topic == "2" else 1
        name = self.retained_topic(number) if topic == "r" else f"c/{self.client_id}/{topic}"
        payload = b"%d" % number
        self.send(wire.publish(name, payload, qos, packet_id, self.version, topic == "r", dup))

    def hear(self, answer: Answer) -> None:
        """An acknowledgement."""
        if answer.kind == wire.SUBACK:
            self._kept = True
        topic, number, _ = self._owed.get(answer.packet_id, ("", 0, False))
        if not topic:
            return
        if answer.reason >= _REFUSED:
            del self._owed[answer.packet_id]
            self.refused += 1
            return
        self.acknowledged[topic].add(number)
        if answer.kind == wire.PUBREC:
            self._owed[answer.packet_id] = (topic, number, True)
            self.send(wire.ack(wire.PUBREL, answer.packet_id))
        else:
            del self._owed[answer.packet_id]
        self._go_on()


class Subscriber(Device):
    """Remembers what it heard, by topic, in order."""

    def __init__(self, client_id: str, version: int, port: int) -> None:
        super().__init__(client_id, version, port)
        self.heard: dict[str, list[int]] = defaultdict(list)
        self._unreleased: set[int] = set()

    @property
    def unreleased(self) -> int:
        """Messages at QoS 2 that the broker has not brought to their end."""
        return len(self._unreleased)

    def begin(self, session_present: bool) -> None:
        """Subscribe, where the broker does not know that we have."""
        if not session_present:
            self._unreleased.clear()
            self.send(wire.subscribe(1, [("c/#", 2), ("w/#", 1)], self.version))
        else:
            self.online.set()

    def hear(self, answer: Answer) -> None:
        """A message, or the end of one."""
        if answer.kind == wire.SUBACK:
            self._kept = True
            self.online.set()
        elif answer.kind == wire.PUBREL:
            self._unreleased.discard(answer.packet_id)
            self.send(wire.ack(wire.PUBCOMP, answer.packet_id))
        elif answer.qos == 2:
            if answer.packet_id not in self._unreleased:
                self._unreleased.add(answer.packet_id)
                self.heard[answer.topic].append(int(answer.payload))
            self.send(wire.ack(wire.PUBREC, answer.packet_id))
        elif answer.kind == wire.PUBLISH:
            self.heard[answer.topic].append(int(answer.payload))
            if answer.qos:
                self.send(wire.ack(wire.PUBACK, answer.packet_id))


class Reader(Device):
    """Asks for the retained messages."""

    def __init__(self, client_id: str, version: int, port: int) -> None:
        super().__init__(client_id, version, port)
        self.retained: dict[str, int] = {}

    def begin(self, session_present: bool) -> None:
        """Have the retained messages sent."""
        self.send(wire.subscribe(1, [("r/#", 1)], self.version))

    def hear(self, answer: Answer) -> None:
        """A retained message."""
        if answer.kind == wire.SUBACK:
            self.online.set()
        elif answer.kind == wire.PUBLISH:
            self.retained[answer.topic] = int(answer.payload)
            self.send(wire.ack(wire.PUBACK, answer.packet_id))


class Mortal(Device):
    """Leaves a will: the number of times that it was accepted. ``delay`` (seconds) is for version 5."""

    def __init__(self, client_id: str, version: int, port: int, delay: int = 0) -> None:
        super().__init__(client_id, version, port)
        self._delay = delay
        self.number = 0
        self.is_gone = False
        """Whether it will not come back: its last will is due, too."""
        self.promised: set[int] = set()
        """Wills that the broker has promised to publish."""

    def _connect_packet(self) -> bytes:
        self.number += 1
        properties = wire.props((0x11, 0xFFFFFFFF)) if self.version == 5 else b""
        will = (f"w/{self.client_id}", b"%d" % self.number, 1, False)
        delay = wire.props((0x18, self._delay)) if self._delay else b""
        return wire.connect(
            self.client_id, self.version, clean=False, properties=properties, will=will, will_properties=delay
        )

    @property
    def due(self) -> set[int]:
        """The wills that have to be published."""
        # Who is back before the delay is over has its will taken back [MQTT5 3.1.3-9]: all but the last are.
        earlier = set() if self._delay else self.promised - {self.number}
        return earlier | (self.promised & {self.number} if self.is_gone else set())

    async def die(self) -> None:
        """Go without a word, and for good."""
        self.is_gone = True
        await self.leave(politely=False)

    def begin(self, session_present: bool) -> None:
        """SUBACK will say that what came before is safe."""
        self.send(wire.subscribe(1, [(f"none/{self.number}", 1)], self.version))

    def hear(self, answer: Answer) -> None:
        """The broker has the will."""
        if answer.kind == wire.SUBACK:
            self._kept = True
            self.promised.add(self.number)
            self.online.set()


def _whole_packets(data: bytes) -> int:
    """How many bytes at the beginning are whole packets."""
    end = 0
    while True:
        at = end + 1
        size = shift = 0
        while True:
            if at >= len(data):
                return end
            byte = data[at]
            size |= (byte & 127) << shift
            shift += 7
            at += 1
            if byte < 128:
                break
        if at + size > len(data):
            return end
        end = at + size
