"""What one client may send: held at its rate, over reconnects too, with nothing lost and nobody cut off."""

from __future__ import annotations

from typing import Any

import pytest

from broker.access.anonymous import Anonymous
from broker.bucket import LONGEST, Bucket, Meter, Meters
from broker.ports import Action, Credentials
from broker.protocol.constants import PUBACK, PUBREL
from broker.protocol.packets import AckRun, PingReq, Publish, PublishRun
from broker.ration import ration
from tests.engine.harness import Broker, Peer
from tests.protocol import wire


def many(count: int, qos: int = 0, size: int = 4) -> bytes:
    """One chunk of many messages, numbered."""
    return b"".join(wire.publish("t", b"%0*d" % (size, n), qos, n + 1, 5) for n in range(count))


def watcher(broker: Broker, topic_filter: str = "#") -> Peer:
    """A client that hears everything."""
    found = broker.client("watcher")
    found.subscribe((topic_filter, 0))
    return found


def numbers(peer: Peer) -> list[int]:
    return [int(payload) for _, payload in peer.heard()]


# -- messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_what_came_at_once_passes_at_the_rate_and_in_order(qos: int) -> None:
    broker = Broker(message_rate=10.0)
    ears = watcher(broker)
    client = broker.client(keep_alive=2)
    client.send(many(1000, qos))
    assert numbers(ears) == list(range(10)), "a second's worth"
    for second in range(1, 100):
        assert client.transport.paused
        broker.advance(1)
        assert numbers(ears) == list(range(second * 10, second * 10 + 10))
    assert not client.transport.paused
    assert not client.closed, "a client that is not read from is not silent"
    assert len(client.take_kind(wire.PUBACK)) == (1000 if qos else 0)
    broker.advance(5)
    assert client.closed


def test_flood_is_held_at_the_rate() -> None:
    broker = Broker(message_rate=10.0)
    ears = watcher(broker)
    client = broker.client()
    for _ in range(60):
        while not client.transport.paused:
            client.send(many(7))
        broker.advance(1)
    assert 600 <= len(numbers(ears)) <= 620


def test_less_than_one_message_a_second() -> None:
    broker = Broker(message_rate=0.5)
    ears = watcher(broker)
    client = broker.client()
    client.send(many(5))
    broker.advance(8)
    assert numbers(ears) == list(range(5))


def test_pings_and_acknowledgements_do_not_wait_behind_messages() -> None:
    broker = Broker(message_rate=10.0)
    client = broker.client()
    client.subscribe(("in", 1))
    broker.client("other").publish("in", b"x", 1)
    client.take()
    client.send(many(30), wire.ack(wire.PUBACK, 1), wire.PINGREQ, wire.disconnect(5))
    assert [answer.kind for answer in client.take()] == [wire.PINGRESP]
    (session,) = [session for session in broker.engine.roster if session.client_id == "c"]
    assert not session.inflight
    broker.advance(1)
    assert not client.closed, "the farewell keeps its place"
    broker.advance(1)
    assert client.closed


def test_what_waits_has_bounded_memory_and_what_finds_no_room_is_owed() -> None:
    broker = Broker(message_rate=10.0)
    budget = broker.engine.roster.budget
    budget.most = 20_000
    ears = watcher(broker, "t")
    clients = [broker.client(f"c{n}") for n in range(4)]
    for client in clients:
        client.send(many(40, 1))
        assert budget.used <= budget.most
        assert client.transport.paused
    assert len(numbers(ears)) == 2 * 10 + 2 * 40
    broker.advance(2)
    assert len(numbers(ears)) == 2 * 20
    assert [client.transport.paused for client in clients] == [True] * 4
    broker.advance(1)
    assert len(numbers(ears)) == 2 * 10
    assert budget.used == 0
    assert [client.transport.paused for client in clients] == [False] * 4
    for end in (Peer.drop, lambda client: client.connection.fail(0x8B, client.broker.now)):
        client = broker.client("late")
        client.send(many(30, 1))
        assert budget.used
        end(client)
        assert budget.used == 0


@pytest.mark.parametrize("farewell", [True, False])
def test_long_read_of_a_connection_that_breaks_is_owed_to_its_end(farewell: bool) -> None:
    broker = Broker(message_rate=10.0)
    ears = watcher(broker, "t")
    client = broker.client()
    client.send(many(2000, 1), wire.disconnect(5) if farewell else b"")
    client.drop()
    assert numbers(ears) == list(range(2000))
    assert broker.engine.roster.connected == 1


def test_ration_splits_where_the_allowance_ends() -> None:
    frames = b"\x30\x06\x00\x01t" + b"abc"
    run = PublishRun(b"t", frames * 5, 5, 8, 5)
    single = Publish(b"t", b"xy", 1, False, False, 9, b"", None, 0)
    free = float("inf")
    assert ration([run, single], free, free) == ([run, single], [])
    now, later = ration([single, run, PingReq(), single, AckRun(PUBREL, [1]), AckRun(PUBACK, [2])], 3.5, free)
    assert now == [single, PublishRun(b"t", frames * 2, 2, 8, 5), PingReq(), AckRun(PUBACK, [2])]
    assert later == [PublishRun(b"t", frames * 3, 3, 8, 5), single, AckRun(PUBREL, [1])]
    assert ration([run], 0.9, free) == ([], [run])
    assert ration([single, single], 1, free) == ([single], [single])
    now, later = ration([run], free, 4)
    assert (now[0].count, later[0].count) == (2, 3), "the second takes what is left and more"
    assert ration([single, run], free, 0) == ([], [single, run])
    empty = PublishRun(b"t", b"\x30\x03\x00\x01t" * 5, 5, 5, 5)
    assert ration([empty], free, 0.5) == ([empty], [])


# -- bytes -------------------------------------------------------------------------------------------------


def test_bytes_pass_at_the_rate() -> None:
    broker = Broker(byte_rate=1000)
    ears = watcher(broker)
    client = broker.client()
    broker.advance(1)
    client.send(many(100, size=100))
    at_once = len(numbers(ears))
    assert at_once <= 10
    broker.advance(5)
    assert at_once + len(numbers(ears)) <= 55
    broker.advance(8)
    assert not client.transport.paused
    assert ears.heard()[-1] == ("t", b"%0100d" % 99)


def test_message_larger_than_a_second_allows_passes_as_a_debt() -> None:
    broker = Broker(byte_rate=1000)
    ears = watcher(broker)
    client = broker.client(keep_alive=1)
    broker.advance(1)
    whole = wire.publish("t", bytes(5000), 0, version=5)
    client.send(whole[:3000])
    assert client.transport.paused, "what has come of a message counts"
    broker.advance(3)
    assert not client.transport.paused
    client.send(whole[3000:])
    assert len(ears.heard()) == 1
    assert client.transport.paused
    broker.advance(1)
    assert client.transport.paused
    broker.advance(2)
    assert not client.transport.paused
    assert not client.closed
    broker.advance(4)
    assert client.closed


def test_other_packets_count_as_bytes() -> None:
    broker = Broker(byte_rate=1000)
    client = broker.client()
    client.send(*[wire.subscribe(1, [("x" * 100, 0)], 5)] * 20)
    assert len(client.take_kind(wire.SUBACK)) == 20
    assert client.transport.paused


# -- over reconnects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("farewell", [True, False])
def test_who_comes_again_finds_its_bucket_as_it_left_it(farewell: bool) -> None:
    broker = Broker(message_rate=10.0)
    ears = watcher(broker)
    for _ in range(20):
        client = broker.client()
        client.send(many(30), wire.disconnect(5) if farewell else b"")
        if not farewell:
            client.drop()
    assert len(numbers(ears)) == 30, "the rest of one read is taken, and owed"
    assert broker.engine.stats.dropped_over_rate == 19 * 30 - (30 if farewell else 0)
    late = broker.client()
    late.send(many(1))
    broker.advance(2)
    assert late.transport.paused
    assert numbers(ears) == []
    broker.advance(1)
    assert numbers(ears) == [0]
    assert not late.transport.paused
    other = broker.client("other")
    other.send(many(10))
    assert not other.transport.paused


def test_connections_one_after_the_other_keep_the_rate_together() -> None:
    broker = Broker(message_rate=10.0)
    ears = watcher(broker)
    for _ in range(200):
        client = broker.client()
        client.send(many(5), wire.disconnect(5))
        broker.advance(0.1)
    assert 200 <= len(numbers(ears)) <= 220


def test_take_over_loses_neither_messages_nor_the_farewell() -> None:
    broker = Broker(message_rate=10.0)
    ears = watcher(broker)
    client = broker.client(will=("will", b"gone", 0, False))
    client.send(many(30), wire.disconnect(5))
    again = broker.client()
    assert client.closed
    assert numbers(ears) == list(range(30)), "and no will"
    again.send(many(1))
    broker.advance(2)
    assert numbers(ears) == []
    broker.advance(1)
    assert numbers(ears) == [0]


def test_meters_are_bounded_and_full_ones_go_first() -> None:
    meters = Meters()
    owing = Meter(1.0, 0, 0.0)
    owing.spend(100_000, 0, 0.0)
    meters.keep("owing", owing, 0.0)
    for number in range(30_000):
        meters.keep(f"c{number}", Meter(1.0, 0, 0.0), 1.0)
    assert len(meters) <= 10_000
    assert meters.take("owing") is owing
    assert meters.take("owing") is None


def test_bucket_gives_what_its_rate_allows() -> None:
    bucket = Bucket(10.0, 0.0)
    assert sum(bucket.take(1, 0.0) for _ in range(20)) == 10
    assert sum(bucket.take(1, 0.5) for _ in range(20)) == 5
    assert bucket.spend(20, 0.5) == pytest.approx(2.0)
    assert not bucket.take(1, 2.5)
    assert bucket.take(1, 2.61)
    assert not bucket.is_full(2.61)
    assert bucket.is_full(100.0)
    assert Meter(0, 0, 0.0).spend(1000, 1000, 0.0) == 0


# -- turns, the authority, overload ------------------------------------------------------------------------


def test_client_without_a_rate_has_no_meter() -> None:
    assert Broker().client().connection.meter is None


def test_rate_holds_over_many_turns() -> None:
    broker = Broker(message_rate=1000.0)
    client = broker.client()
    topics = [wire.publish(f"t/{n % 100}", b"x", 1, n + 1, 5) for n in range(2500)]
    client.send(*topics)
    assert len(client.take_kind(wire.PUBACK)) == 1000
    broker.advance(1)
    assert len(client.take_kind(wire.PUBACK)) == 1000
    broker.advance(1)
    assert [answer.packet_id for answer in client.take_kind(wire.PUBACK)] == list(range(2001, 2501))
    assert not client.transport.paused


class Asked(Anonymous):
    """Has to be asked about the topic `ask`, and says yes when it is told to."""

    def __init__(self) -> None:
        self.questions: list[Any] = []
        self.answered = False

    def may_publish(self, credentials: Credentials, topic: str) -> int | None:
        return None if topic == "ask" and not self.answered else super().may_publish(credentials, topic)

    def decide(self, credentials: Credentials, action: Action, topic: str, done: Any) -> None:
        self.questions.append(done)

    def answer(self) -> None:
        self.answered = True
        self.questions.pop()()


@pytest.mark.parametrize("rate", [0.0, 600.0])
def test_client_is_read_from_again_after_a_question_in_a_later_turn(rate: float) -> None:
    authority = Asked()
    broker = Broker(authority, message_rate=rate)
    client = broker.client()
    client.send(
        *[wire.publish("t", b"x", 1, n + 1, 5) for n in range(700)], wire.publish("ask", b"x", 1, 999, 5)
    )
    broker.advance(1)
    assert client.transport.paused
    authority.answer()
    broker.advance(1)
    assert not client.transport.paused
    assert client.take_kind(wire.PUBACK)[-1].packet_id == 999


def test_overload_takes_what_was_read_and_reads_little_more() -> None:
    broker = Broker()
    ears = watcher(broker)
    client = broker.client()
    broker.engine.overloaded(True, broker.now)
    client.send(many(1000))
    assert len(numbers(ears)) == 1000, "nothing is kept in memory"
    assert client.transport.paused
    broker.advance(LONGEST)
    assert not client.transport.paused, "a ping is seen in time"
    client.send(many(1))
    broker.engine.overloaded(False, broker.now)
    broker.advance(1)
    assert not client.transport.paused, "it is over at once for all"
    client.send(many(1000))
    assert not client.transport.paused


def test_overload_drops_nothing_of_a_connection_that_breaks() -> None:
    broker = Broker()
    ears = watcher(broker)
    client = broker.client()
    broker.engine.overloaded(True, broker.now)
    turns = b"".join(wire.publish(f"t/{n}", b"%d" % n, 1, n + 1, 5) for n in range(100))
    client.connection.receive(turns, broker.now)
    client.drop()
    assert numbers(ears) == list(range(100))


def test_overload_lets_no_client_send_more_than_its_own_rate() -> None:
    broker = Broker(message_rate=10.0)
    ears = watcher(broker)
    client = broker.client()
    client.send(many(100))
    assert len(numbers(ears)) == 10
    broker.engine.overloaded(True, broker.now)
    broker.advance(5)
    assert len(numbers(ears)) == 5
    broker.engine.overloaded(False, broker.now)
    broker.advance(5)
    assert 40 <= len(numbers(ears)) <= 50
