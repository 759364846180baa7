"""How messages are collected for several nodes, and how those that fell behind catch up: on a workbench."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from broker.message import Message
from edge_mesh import envelope, relay
from edge_mesh.control import Ack
from edge_mesh.keys import Keys
from edge_mesh.lanes import SendingLane, Stand
from edge_mesh.outbox_store import Entry, OutboxStore, Row, SharedRow
from edge_mesh.regions import gateway
from edge_mesh.ways import Ways
from tests.simulator.batches import one_by_one

KEYS = Keys("t")


class Sender:
    """There are no threads here: what is put is put."""

    waiting = 0

    def stop(self) -> None:
        pass


class Link:
    """Remembers what was put."""

    def __init__(self) -> None:
        self.puts: list[tuple[str, bytes]] = []

    def put_soon(self, key: str, payload: bytes, priority: Any) -> None:
        self.puts.append((key, payload))

    def sender(self, name: str) -> Any:
        return Sender()

    def put_surely(self, sender: Any, key: str, payload: bytes, priority: Any) -> None:
        self.puts.append((key, payload))


class Outbox:
    """A real store; what is read comes back when the test says so."""

    epoch = 7

    def last_sequence(self, destination: str) -> int:
        return 100

    def __init__(self) -> None:
        self.store = OutboxStore(None)
        self.store.begin()
        self.epochs: dict[str, int] = {}
        self.due: list[Callable[[], None]] = []

    def read(self, destination: str, after: int, max_bytes: int, done: Callable[[list[Row]], None]) -> None:
        rows = self.store.read(destination, after, max_bytes)
        self.due.append(lambda: done(rows))

    def read_together(
        self,
        positions: Sequence[tuple[str, int]],
        max_bytes: int,
        done: Callable[[list[SharedRow], bool], None],
    ) -> None:
        rows, complete = self.store.read_together(positions, max_bytes)
        self.due.append(lambda: done(rows, complete))

    def acknowledge(self, destination: str, sequence: int) -> None:
        self.store.acknowledge(destination, sequence)

    def epoch_for(self, destination: str) -> int:
        return self.epochs.get(destination, self.epoch)

    def keep_epoch(self, destination: str, epoch: int) -> None:
        self.epochs[destination] = epoch


class Peer:
    def __init__(self, name: str, region: str, lane: SendingLane) -> None:
        self.name, self.region, self.lane = name, region, lane
        self.alive = True


class Bench:
    """A node of region ``home`` with three others of region ``far``, one of its own, and a window."""

    def __init__(self, window: int = 1 << 20) -> None:
        self.link = Link()
        self.outbox = Outbox()
        self.later: list[Callable[[], None]] = []
        self.stand = stand = Stand(
            "me",
            KEYS,
            self.link,  # type: ignore[arg-type]
            self.outbox,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            True,
            lambda: (1000.0, 5.0),
            lambda seconds, call: self.later.append(call),
            window,
            1.0,
        )
        self.peers = {
            name: Peer(name, region, SendingLane(stand, name))
            for name, region in (("a", "far"), ("b", "far"), ("c", "far"), ("near", "home"))
        }
        self.ways = Ways(stand, "home", self.peers)
        self.ways.rebuild()
        self.published = 0

    def resume(self, *names: str) -> None:
        for name in names:
            self.peers[name].lane.resume()

    def settle(self) -> None:
        """Everything that is due is done."""
        while self.later or self.outbox.due:
            due, self.later, self.outbox.due = self.later + self.outbox.due, [], []
            for call in due:
                call()

    def all_there(self) -> None:
        self.resume(*self.peers)
        self.settle()
        assert all(peer.lane.direct for peer in self.peers.values())

    def publish(self, nodes: str, qos: int = 1, size: int = 0) -> None:
        self.published += 1
        record = envelope.encode_record(Message("t", b"%d" % self.published + bytes(size), qos))
        plan = self.ways.plan(tuple(nodes.split()))
        if qos:
            targets = plan.add_durable(record)
            self.outbox.store.add([Entry(record, 0.0, targets)], 1000.0, {})
        else:
            plan.add_live(record)

    def puts(self) -> list[tuple[str, str, list[int]]]:
        """(key, target, numbers of the messages) of what was put since the last call."""
        found: list[tuple[str, str, list[int]]] = []
        puts, self.link.puts = self.link.puts, []
        for key, payload in puts:
            parts = relay.decode(payload) if "/relay/" in key else [(key.split("/")[-2], payload)]
            for name, data in parts:
                header = envelope.decode_header(data)
                messages = one_by_one(envelope.decode_live(data, header, 1000.0))
                found.append((key, name, [int(m.payload.rstrip(b"\0")) for m in messages]))
        return found

    def acknowledge(self, name: str, sequence: int, again: bool = False) -> None:
        self.peers[name].lane.acknowledge(Ack(7, sequence, again))


@pytest.fixture
def bench() -> Bench:
    return Bench()


TO_GATEWAY = KEYS.relay(gateway("far", "abc") or "", "me")


def alone(name: str) -> str:
    return KEYS.durable(name, "me")


def test_what_several_want_goes_to_the_gateway_and_the_rest_goes_straight(bench: Bench) -> None:
    bench.all_there()
    bench.publish("a b c near")
    bench.publish("a near")
    bench.publish("b c")
    bench.ways.flush()
    assert bench.puts() == [
        (TO_GATEWAY, "a", [1, 2]),
        (TO_GATEWAY, "b", [1, 3]),
        (TO_GATEWAY, "c", [1, 3]),
        (alone("near"), "near", [1, 2]),
    ]
    bench.publish("b")
    bench.publish("b", qos=0)
    bench.ways.flush()
    assert bench.puts() == [(KEYS.live("b", "me"), "b", [5]), (alone("b"), "b", [4])]
    assert [(r.name, r.gateway, r.sent) for r in bench.ways.regions()] == [
        ("far", TO_GATEWAY.split("/")[-2], 5)
    ]


def test_receiver_that_has_heard_a_later_life_is_sent_all_in_an_epoch_of_its_own(bench: Bench) -> None:
    bench.all_there()
    bench.publish("a b c")
    bench.ways.flush()
    bench.puts()
    for answer in (Ack(20, 1000, False), Ack(20, 1000, False)):
        bench.peers["b"].lane.acknowledge(answer)
    bench.publish("a b c")
    bench.settle()
    bench.ways.flush()
    puts = list(bench.link.puts)
    assert bench.puts() == [
        (alone("b"), "b", [1]),
        (alone("b"), "b", [2]),
        (TO_GATEWAY, "a", [2]),
        (TO_GATEWAY, "c", [2]),
    ]
    assert [envelope.decode_header(data).epoch for key, data in puts if key == alone("b")] == [21, 21]
    assert bench.outbox.epochs == {"b": 21}
    bench.publish("a b")
    bench.ways.flush()
    assert bench.puts() == [(alone("a"), "a", [3]), (alone("b"), "b", [3])]


def test_live_messages_for_who_is_away_are_dropped_and_counted(bench: Bench) -> None:
    bench.resume("a", "b")
    bench.settle()
    bench.publish("a b c", qos=0)
    bench.publish("c", qos=0)
    bench.ways.flush()
    assert [(name, numbers) for _, name, numbers in bench.puts()] == [("a", [1]), ("b", [1])]
    assert bench.peers["c"].lane.live_dropped == 2
    bench.publish("a b", qos=0)
    bench.peers["a"].lane.pause()
    bench.ways.flush()
    assert [(name, numbers) for _, name, numbers in bench.puts()] == [("b", [3])]
    assert bench.peers["a"].lane.live_dropped == 1


def test_live_message_takes_the_same_way_whatever_goes_with_it(bench: Bench) -> None:
    """Or else the second for b alone would overtake the first, which waits at the gateway."""
    bench.all_there()
    bench.publish("b", qos=0)
    bench.publish("a b c", qos=0)
    bench.publish("b", qos=0)
    bench.ways.flush()
    assert bench.puts() == [
        *((TO_GATEWAY, name, [2]) for name in "abc"),
        (KEYS.live("b", "me"), "b", [1, 3]),
    ]
    assert [bench.peers[name].lane.sent for name in "abc"] == [1, 3, 1]
    bench.publish("b c", qos=0)
    bench.publish("a", qos=0)
    bench.peers["c"].lane.pause()
    bench.ways.flush()
    assert bench.puts() == [(KEYS.live("a", "me"), "a", [5]), (KEYS.live("b", "me"), "b", [4])]


def test_those_who_come_back_together_catch_up_together(bench: Bench) -> None:
    bench.publish("a b c")
    bench.publish("b c")
    bench.publish("a b c")
    bench.resume("c", "a", "b")
    assert bench.puts() == [], "the first waits for the others"
    bench.settle()
    assert bench.puts() == [
        (TO_GATEWAY, "a", [1, 3]),
        (TO_GATEWAY, "b", [1, 2, 3]),
        (TO_GATEWAY, "c", [1, 2, 3]),
    ]
    assert all(bench.peers[name].lane.direct for name in "abc")
    bench.publish("a b c")
    bench.ways.flush()
    assert [numbers for _, _, numbers in bench.puts()] == [[4]] * 3


def test_who_comes_late_travels_alone(bench: Bench) -> None:
    bench.publish("a b c")
    bench.resume("a", "b")
    bench.settle()
    bench.puts()
    bench.resume("c")
    bench.settle()
    assert bench.puts() == [(alone("c"), "c", [1])]


def test_who_misses_something_begins_again_alone(bench: Bench) -> None:
    for _ in range(3):
        bench.publish("a b c")
    bench.resume("a", "b", "c")
    bench.settle()
    bench.puts()
    bench.acknowledge("b", 101, again=True)
    bench.settle()
    assert bench.puts() == [(alone("b"), "b", [2, 3])]


def test_nobody_waits_for_who_is_a_whole_window_behind() -> None:
    bench = Bench(window=600_000)
    for _ in range(12):
        bench.publish("a b", size=100_000)
    bench.resume("a", "b")
    bench.settle()
    first = [(name, numbers) for _, name, numbers in bench.puts()]
    sent = [number for name, numbers in first if name == "a" for number in numbers]
    assert 0 < len(sent) < 12, "the window holds the rest back"
    bench.acknowledge("a", 100 + len(sent))
    bench.settle()
    ahead = bench.puts()
    assert {(key, name) for key, name, _ in ahead} == {(alone("a"), "a")}
    while ahead:
        sent += [number for _, _, numbers in ahead for number in numbers]
        bench.acknowledge("a", 100 + len(sent))
        bench.settle()
        ahead = bench.puts()
    assert sent == list(range(1, 13))
    heard = [number for name, numbers in first if name == "b" for number in numbers]
    while len(heard) < 12:
        bench.acknowledge("b", 100 + len(heard))
        bench.settle()
        rest = bench.puts()
        assert rest
        assert {key for key, _, _ in rest} == {alone("b")}
        heard += [number for _, _, numbers in rest for number in numbers]
    assert heard == list(range(1, 13))


def test_who_fills_its_window_reads_from_the_outbox_and_does_not_slow_the_others() -> None:
    bench = Bench(window=250_000)
    bench.all_there()
    for number in range(1, 5):
        bench.publish("a b c", size=100_000)
        bench.ways.flush()
        for name in "bc":
            bench.acknowledge(name, 100 + number)
    assert not bench.peers["a"].lane.direct
    heard: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for _, name, numbers in bench.puts():
        heard[name] += numbers
    assert heard == {"a": [1, 2], "b": [1, 2, 3, 4], "c": [1, 2, 3, 4]}
    bench.acknowledge("a", 102)
    bench.settle()
    assert bench.puts() == [(alone("a"), "a", [3, 4])]


@pytest.mark.parametrize("away", ["a", "b", "c"])
def test_another_gateway_is_chosen_without_the_dead(bench: Bench, away: str) -> None:
    bench.all_there()
    bench.publish("a b c")
    bench.peers[away].alive = False
    bench.peers[away].lane.pause()
    bench.ways.rebuild()
    bench.publish("a b c")
    bench.ways.flush()
    living = "abc".replace(away, "")
    before, after = TO_GATEWAY, KEYS.relay(gateway("far", living) or "", "me")
    assert {key for key, _, numbers in bench.puts() if 2 in numbers} == {after}
    assert (before == after) == (away not in before.split("/"))


def test_a_new_node_of_the_region_ends_the_convoy_and_nothing_is_lost(bench: Bench) -> None:
    bench.publish("a b c")
    bench.resume("a", "b", "c")
    bench.peers["d"] = Peer("d", "far", SendingLane(bench.stand, "d"))
    bench.ways.rebuild()
    bench.settle()
    assert sorted(name for _, name, _ in bench.puts()) == ["a", "b", "c"]


def test_acknowledgement_that_overtakes_what_is_read_frees_the_window(bench: Bench) -> None:
    """Found by the simulator: the lane waited for ever for an acknowledgement that had come before."""
    for _ in range(3):
        bench.publish("a")
    bench.resume("a")
    for depart in bench.later:
        depart()
    bench.later.clear()
    assert bench.outbox.due, "the outbox is being read"
    bench.acknowledge("a", 103)
    bench.settle()
    assert not bench.peers["a"].lane.is_idle, "what was read was sent again"
    bench.acknowledge("a", 103)
    assert bench.peers["a"].lane.is_idle
