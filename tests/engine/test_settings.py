"""What an operator may have the broker do otherwise: payload checks, copies of overlapping subscriptions, hints."""

from __future__ import annotations

from typing import Any

import pytest

from broker.access.anonymous import Anonymous
from broker.ports import ALL_RIGHTS, Credentials
from tests.engine.harness import Broker
from tests.protocol import wire

TEXT = wire.props((0x01, 1))
BYTES = wire.props((0x01, 0))
REASON_STRING = 0x1F


# -- payload format ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_payload_that_is_not_what_its_format_says(qos: int) -> None:
    broker = Broker(check_payload_format=True)
    watcher = broker.client("watcher")
    watcher.subscribe(("a", 2))
    client = broker.client()
    client.publish("a", "é".encode(), qos, 1, properties=TEXT)
    client.publish("a", b"\xff", qos, 2, properties=BYTES)
    client.publish("a", b"\xff", qos, 3)
    assert [payload for _, payload in watcher.heard()] == ["é".encode(), b"\xff", b"\xff"]
    client.take()
    client.publish("a", b"\xff", qos, 4, properties=TEXT)
    (answer,) = client.take()
    assert answer.kind == [wire.DISCONNECT, wire.PUBACK, wire.PUBREC][qos]
    assert (answer.reason, answer.get(REASON_STRING)) == (0x99, "the payload is no UTF-8")
    assert client.closed == (qos == 0)
    assert watcher.heard() == []
    if qos == 2:
        client.publish("a", b"better", 2, 4, properties=TEXT)
        assert watcher.heard() == [("a", b"better")], "the identifier is free again"


def test_will_that_is_not_what_its_format_says() -> None:
    broker = Broker(check_payload_format=True)
    for payload, reason in ((b"\xff", 0x99), (b"ok", 0)):
        answer = broker.peer().ask(wire.connect("c", 5, will=("w", payload, 0, False), will_properties=TEXT))
        assert answer.reason == reason


def test_payload_format_is_handed_on_unchecked_by_default() -> None:
    broker = Broker()
    watcher = broker.client("watcher")
    watcher.subscribe(("a", 0))
    broker.client().publish("a", b"\xff", properties=TEXT)
    (message,) = watcher.take()
    assert (message.payload, message.get(0x01)) == (b"\xff", 1)


# -- overlapping subscriptions -----------------------------------------------------------------------------


@pytest.mark.spec("MQTT-3.3.4-5")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_one_copy_for_each_overlapping_subscription(version: int, qos: int) -> None:
    broker = Broker(overlapping="each")
    client = broker.client(version=version)
    for number, (topic_filter, granted) in enumerate((("a/b", 1), ("a/+", 0), ("#", 2)), 1):
        client.subscribe((topic_filter, granted), identifier=number if version == 5 else 0)
    broker.client("pub", version).publish("a/b", b"x", qos)
    heard = client.take_kind(wire.PUBLISH)
    assert sorted(message.qos for message in heard) == sorted(min(qos, granted) for granted in (1, 0, 2))
    if version == 5:
        assert sorted(message.all(0x0B) for message in heard) == [[1], [2], [3]]
    broker.client("other", version).publish("a/c", b"y")
    assert len(client.heard()) == 2


# -- response information ----------------------------------------------------------------------------------


@pytest.mark.spec("MQTT-3.1.2-28")
def test_response_information() -> None:
    broker = Broker(response_information="answers/%c/%u")
    asked = wire.props((0x19, 1))
    assert broker.client("joe", properties=asked).connack.get(0x1A) == "answers/joe/"
    named = broker.client("joe", properties=asked, username="ann", password=b"")
    assert named.connack.get(0x1A) == "answers/joe/ann"
    assert broker.client("joe").connack.get(0x1A) is None
    assert broker.client("joe", properties=wire.props((0x19, 0))).connack.get(0x1A) is None
    assert Broker().client("joe", properties=asked).connack.get(0x1A) is None


# -- problem information -----------------------------------------------------------------------------------


class Denying(Anonymous):
    """Nothing below `secret` is for anybody."""

    def may_publish(self, credentials: Credentials, topic: str) -> int | None:
        return 0 if topic.startswith("secret/") else ALL_RIGHTS

    def may_subscribe(self, credentials: Credentials, topic_filter: str, qos: int) -> bool | None:
        return not topic_filter.startswith("secret/")


@pytest.mark.spec(
    "MQTT-3.1.2-29",
    "MQTT-3.4.2-2",
    "MQTT-3.4.2-3",
    "MQTT-3.5.2-2",
    "MQTT-3.5.2-3",
    "MQTT-3.9.2-1",
    "MQTT-3.9.2-2",
)
@pytest.mark.parametrize(
    ("properties", "told"),
    [((), True), (((0x17, 1),), True), (((0x17, 0),), False), (((0x27, 30),), False)],
)
def test_denials_are_explained_to_whom_they_may_be(properties: Any, told: bool) -> None:
    client = Broker(Denying()).client(properties=wire.props(*properties))
    answers = [
        client.ask(wire.publish("secret/x", b"", 1, 1, 5)),
        client.ask(wire.publish("secret/x", b"", 2, 2, 5)),
        client.ask(wire.subscribe(3, [("open", 1), ("secret/x", 1)], 5)),
    ]
    assert [answer.kind for answer in answers] == [wire.PUBACK, wire.PUBREC, wire.SUBACK]
    assert [answer.reason for answer in answers[:2]] == [0x87, 0x87]
    assert answers[2].reasons == [1, 0x87]
    for answer in answers:
        assert {identifier for identifier, _ in answer.properties} == ({REASON_STRING} if told else set())
