"""Enhanced authentication: AUTH before CONNACK and after it, with SCRAM as the library's client speaks it."""

from __future__ import annotations

import pytest
from scramp import ScramClient

from broker.access.anonymous import Anonymous
from broker.access.scram import ScramExchange
from broker.access.users import SCRAM, User, make_user
from broker.ports import Credentials, Exchange, Step
from tests.engine.harness import Broker, Peer
from tests.protocol import wire
from tests.protocol.wire import Answer

USERS = {"joe": make_user("secret", scram=True), "ann": make_user("secret", scram=True), "argon": User("x")}
METHOD, DATA = 0x15, 0x16


class Door(Anonymous):
    """Anyone may come in; whoever asks for a method has to go through with it."""

    def exchange(self, method: str, credentials: Credentials) -> Exchange | None:
        if method == "echo":
            return Echo()
        return ScramExchange(USERS) if method == SCRAM else None


class Echo:
    """Challenges with what it was sent, until it is sent `done` or `fail`."""

    def answer(self, data: bytes) -> Step:
        if data == b"done":
            return Step(b"", True, username="echo")
        return Step(b"", reason=0x87) if data == b"fail" else Step(data)


@pytest.fixture
def broker() -> Broker:
    return Broker(Door())


def connect(method: str, data: bytes | None = None, *more: tuple[int, object]) -> bytes:
    pairs = [(METHOD, method)] + ([(DATA, data)] if data is not None else []) + list(more)
    return wire.connect("c", 5, properties=wire.props(*pairs))


def auth(method: str, data: bytes, reason: int = 0x18) -> bytes:
    return wire.auth(reason, wire.props((METHOD, method), (DATA, data)))


def scram(peer: Peer, client: ScramClient, first: bytes) -> Answer:
    """Go through SCRAM; ``first`` carries the client's first message. The server's last answer."""
    challenge = peer.ask(first)
    assert (challenge.kind, challenge.reason) == (wire.AUTH, 0x18)
    assert challenge.get(METHOD) == SCRAM
    client.set_server_first(challenge.get(DATA).decode())
    last = peer.ask(auth(SCRAM, client.get_client_final().encode()))
    if last.get(DATA):
        client.set_server_final(last.get(DATA).decode())
    return last


def enter(broker: Broker, name: str = "joe") -> Peer:
    """A client that has come in by SCRAM."""
    client = ScramClient([SCRAM], name, "secret")
    peer = broker.peer()
    welcome = scram(peer, client, connect(SCRAM, client.get_client_first().encode()))
    assert (welcome.kind, welcome.reason, welcome.get(METHOD)) == (wire.CONNACK, 0, SCRAM)
    assert welcome.get(DATA)
    return peer


@pytest.mark.spec("MQTT-4.12.0-2", "MQTT-4.12.0-5", "MQTT-3.15.2-2", "MQTT-3.15.2-3", "MQTT-3.2.0-1")
def test_scram(broker: Broker) -> None:
    peer = enter(broker)
    assert peer.connection.credentials is not None
    assert peer.connection.credentials.username == "joe"
    assert peer.ask(wire.PINGREQ).kind == wire.PINGRESP


def test_scram_client_that_waits_to_be_asked(broker: Broker) -> None:
    client = ScramClient([SCRAM], "joe", "secret")
    peer = broker.peer()
    opening = peer.ask(connect(SCRAM))
    assert (opening.kind, opening.reason, opening.properties) == (wire.AUTH, 0x18, [(METHOD, SCRAM)])
    assert scram(peer, client, auth(SCRAM, client.get_client_first().encode())).kind == wire.CONNACK


@pytest.mark.parametrize(("name", "password"), [("joe", "wrong"), ("nobody", "secret"), ("argon", "secret")])
@pytest.mark.spec("MQTT-4.12.0-4")
def test_scram_with_the_wrong_password_or_user(broker: Broker, name: str, password: str) -> None:
    client = ScramClient([SCRAM], name, password)
    peer = broker.peer()
    refusal = scram(peer, client, connect(SCRAM, client.get_client_first().encode()))
    assert (refusal.kind, refusal.reason, refusal.properties) == (wire.CONNACK, 0x87, [])
    assert peer.closed
    assert len(broker.engine.roster) == 0


@pytest.mark.parametrize(
    "data", [b"x", b"\xff", b"n,,n=joe", b"n,,r=abc", b"p=tls-unique,,n=joe,r=abc", b",,,"]
)
def test_scram_of_nonsense(broker: Broker, data: bytes) -> None:
    peer = broker.peer()
    answer = peer.ask(connect(SCRAM, data))
    assert (answer.kind, answer.reason) == (wire.CONNACK, 0x87)
    assert peer.closed


@pytest.mark.spec("MQTT-4.12.0-1")
def test_method_that_is_not_offered(broker: Broker) -> None:
    peer = broker.peer()
    answer = peer.ask(connect("GS2-KRB5", b"x"))
    assert (answer.kind, answer.reason, answer.properties) == (wire.CONNACK, 0x8C, [])
    assert peer.closed


@pytest.mark.spec("MQTT-3.1.2-30")
@pytest.mark.parametrize(
    "data",
    [
        wire.PINGREQ,
        wire.publish("a", b"x", version=5),
        auth("other", b"x"),
        auth("echo", b"x", 0x19),
        wire.packet(0xF1, b""),
    ],
)
def test_only_auth_comes_between_connect_and_connack(broker: Broker, data: bytes) -> None:
    for together in (True, False):
        peer = broker.peer()
        packets = [connect("echo", b"one"), data]
        for chunk in [b"".join(packets)] if together else packets:
            peer.send(chunk)
        found = peer.take()
        assert [(answer.kind, answer.reason >= 0x80) for answer in found] == [
            (wire.AUTH, False),
            (wire.CONNACK, True),
        ]
        assert peer.closed


def test_client_that_leaves_during_authentication(broker: Broker) -> None:
    peer = broker.peer()
    peer.send(connect("echo", b"one"), wire.disconnect(5))
    assert [answer.kind for answer in peer.take()] == [wire.AUTH]
    assert peer.closed


def test_client_that_never_finishes(broker: Broker) -> None:
    peer = broker.peer()
    peer.ask(connect("echo", b"one"))
    for _ in range(4):
        broker.advance(2)
        peer.ask(auth("echo", b"more"))
    broker.advance(4)
    assert peer.closed


def test_packets_behind_the_last_auth_are_worked_on(broker: Broker) -> None:
    peer = broker.peer()
    peer.send(connect("echo", b"one"), auth("echo", b"done"), wire.PINGREQ)
    assert [answer.kind for answer in peer.take()] == [wire.AUTH, wire.CONNACK, wire.PINGRESP]


@pytest.mark.spec("MQTT-4.12.1-1")
def test_reauthentication_goes_on_beside_other_packets(broker: Broker) -> None:
    peer = enter(broker)
    for _ in range(2):
        client = ScramClient([SCRAM], "joe", "secret")
        challenge = peer.ask(auth(SCRAM, client.get_client_first().encode(), 0x19))
        client.set_server_first(challenge.get(DATA).decode())
        assert peer.ask(wire.PINGREQ).kind == wire.PINGRESP
        success = peer.ask(auth(SCRAM, client.get_client_final().encode()))
        assert (success.kind, success.reason, success.get(METHOD)) == (wire.AUTH, 0, SCRAM)
        client.set_server_final(success.get(DATA).decode())


@pytest.mark.spec("MQTT-4.12.1-2")
@pytest.mark.parametrize(("name", "password"), [("joe", "wrong"), ("ann", "secret")])
def test_reauthentication_that_fails(broker: Broker, name: str, password: str) -> None:
    """A wrong password; and another user, who is not the one to whom the session belongs."""
    peer = enter(broker)
    client = ScramClient([SCRAM], name, password)
    last = scram(peer, client, auth(SCRAM, client.get_client_first().encode(), 0x19))
    assert (last.kind, last.reason) == (wire.DISCONNECT, 0x87)
    assert peer.closed


@pytest.mark.parametrize(
    "data",
    [
        auth("other", b"x", 0x19),
        auth(SCRAM, b"x", 0x18),
        wire.auth(0x19),
        wire.auth(),
    ],
)
def test_reauthentication_out_of_order(broker: Broker, data: bytes) -> None:
    peer = enter(broker)
    answer = peer.ask(data)
    assert (answer.kind, answer.reason) == (wire.DISCONNECT, 0x82)
    assert peer.closed


@pytest.mark.spec("MQTT-3.1.2-24")
def test_challenge_that_is_too_large_for_the_client(broker: Broker) -> None:
    peer = broker.peer()
    answer = peer.ask(connect("echo", b"x" * 100, (0x27, 50)))
    assert (answer.kind, answer.reason) == (wire.CONNACK, 0x95)
    assert peer.closed
