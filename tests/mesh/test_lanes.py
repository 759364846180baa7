"""The receiving end of a durable lane: each message once, in order, whatever comes again or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker.message import Message
from edge_mesh import control, envelope
from edge_mesh.control import Ack
from edge_mesh.envelope import EnvelopeError
from edge_mesh.keys import Keys
from edge_mesh.lanes import ReceivingLane, Stand


class Link:
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.acks: list[Ack] = []

    def put_soon(self, key: str, payload: bytes, priority: Any) -> None:
        ack = control.decode(payload)
        assert isinstance(ack, Ack)
        self.acks.append(ack)


class Local:
    """Remembers the marks that are to be made safe."""

    def __init__(self) -> None:
        self.saved: list[tuple[int, int]] = []
        self.commits: list[Callable[[], None]] = []

    def heard(self, sender: str, epoch: int, sequence: int) -> None:
        self.saved.append((epoch, sequence))

    def commit(self, on_safe: Callable[[], None]) -> None:
        self.commits.append(on_safe)


class Bench:
    """A lane on a workbench."""

    def __init__(self, mark: tuple[int, int] = (0, 0), durable: bool = True) -> None:
        self.link = Link()
        self.local = Local()
        self.clock = 0.0
        stand: Any = Stand(
            "here",
            Keys("t"),
            self.link,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            self.local,  # type: ignore[arg-type]
            durable,
            lambda: (1000.0, self.clock),
            lambda seconds, call: None,
            1 << 20,
            1.0,
        )
        self.lane = ReceivingLane(stand, "there", mark)

    def take(self, first: int, count: int, after: int | None = None, epoch: int = 1) -> list[int]:
        records = [envelope.encode_record(Message("t", b"%d" % (first + n), 1)) for n in range(count)]
        after = first - 1 if after is None else after
        data = envelope.encode(
            envelope.DURABLE, "there", records, 1000.0, epoch=epoch, after=after, first=first
        )
        return [int(message.payload) for message in self.lane.take(data, envelope.decode_header(data))]


def test_what_comes_again_is_taken_once() -> None:
    bench = Bench()
    assert bench.take(1, 3) == [1, 2, 3]
    assert bench.take(1, 3) == []
    assert bench.take(2, 4) == [4, 5]
    assert bench.take(1, 1) == []
    assert bench.take(6, 1) == [6]
    assert bench.lane.received == 6
    assert bench.lane.duplicates == 3 + 2 + 1


def test_gap_is_asked_for_once_and_again_later() -> None:
    bench = Bench()
    assert bench.take(1, 2) == [1, 2]
    assert bench.take(5, 1) == []
    assert bench.take(6, 1) == []
    assert bench.link.acks == [Ack(1, 0, True)]
    bench.clock = 2.0
    assert bench.take(7, 1) == []
    assert len(bench.link.acks) == 2
    assert bench.take(3, 5) == [3, 4, 5, 6, 7]


def test_what_no_longer_exists_is_not_waited_for() -> None:
    bench = Bench()
    assert bench.take(10, 1, after=0) == [10]
    assert bench.take(15, 1, after=10) == [15]


def test_mark_is_safe_before_it_is_acknowledged() -> None:
    bench = Bench()
    bench.take(1, 2)
    bench.lane.settle()
    bench.take(3, 1)
    bench.lane.settle()
    assert bench.local.saved == [(1, 2), (1, 3)], "with what was delivered, whatever waits"
    assert bench.link.acks == []
    bench.local.commits.pop()()
    assert bench.link.acks == [Ack(1, 2, False)]
    bench.local.commits.pop()()
    assert bench.link.acks[-1] == Ack(1, 3, False)


def test_mark_outlives_the_process_and_a_new_epoch_begins_at_nothing() -> None:
    bench = Bench(mark=(1, 5))
    assert bench.take(4, 3) == [6]
    assert bench.take(1, 2, epoch=2) == [1, 2]


def test_what_a_former_life_sent_late_is_refused() -> None:
    bench = Bench(mark=(1, 5))
    assert bench.take(1, 2, epoch=2) == [1, 2]
    bench.lane.settle()
    bench.local.commits.pop()()
    assert bench.take(4, 3, epoch=1) == []
    assert bench.take(7, 1, epoch=1) == []
    assert bench.link.acks == [Ack(2, 2, False), Ack(2, 2, False)], (
        "once, lest the living one hears it all day"
    )
    assert bench.take(1, 3, epoch=2) == [3]
    assert bench.local.saved == [(2, 2)]


def test_sender_whose_clock_was_set_back_is_told_each_time_it_asks() -> None:
    bench = Bench(mark=(9, 5))
    assert bench.take(1, 2, epoch=8) == []
    bench.clock = 1.0
    assert bench.take(3, 0, epoch=8) == []
    assert bench.link.acks == [Ack(9, 5, False)] * 2
    assert bench.take(1, 2, epoch=10) == [1, 2]


def test_nothing_is_saved_in_memory_mode() -> None:
    bench = Bench(durable=False)
    bench.take(1, 2)
    bench.lane.settle()
    assert bench.local.saved == []
    assert bench.link.acks == [Ack(1, 2, False)]


def test_envelope_that_cannot_be_read_does_not_stop_the_lane() -> None:
    bench = Bench()
    data = envelope.encode(envelope.DURABLE, "there", [b"\xff" * 9], 1000.0, epoch=1, after=0, first=1)
    with pytest.raises(EnvelopeError):
        bench.lane.take(data, envelope.decode_header(data))
    assert bench.take(2, 1) == [2]
