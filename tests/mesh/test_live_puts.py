"""What may be lost and is large: put by a thread, in order with what comes after it, within a bound."""

from __future__ import annotations

from typing import Any

from edge_mesh.live_puts import LivePuts
from tests.mesh.fakes import Meadow, joined, until


class Thread:
    """A sender that puts when the test says so."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.stopped = False

    @property
    def waiting(self) -> int:
        return len(self.calls)

    def stop(self) -> None:
        self.stopped = True


class Link:
    """Remembers what was put, and by whom."""

    def __init__(self) -> None:
        self.soon: list[bytes] = []
        self.threads: list[Thread] = []

    def put_soon(self, key: str, payload: bytes, priority: Any) -> None:
        self.soon.append(payload)

    def sender(self, name: str) -> Thread:
        self.threads.append(Thread())
        return self.threads[-1]

    def put_surely(self, sender: Thread, key: str, payload: bytes, priority: Any) -> None:
        sender.calls.append(payload)


LARGE = bytes(1 << 20)


def puts_over(link: Link) -> LivePuts:
    return LivePuts(link, "live-b")  # type: ignore[arg-type]


def test_small_envelopes_need_no_thread() -> None:
    link = Link()
    puts = puts_over(link)
    assert puts.put("k", b"1")
    assert puts.put("k", b"2")
    puts.close()
    assert link.soon == [b"1", b"2"]
    assert link.threads == []


def test_what_comes_after_a_large_envelope_does_not_overtake_it() -> None:
    link = Link()
    puts = puts_over(link)
    assert puts.put("k", LARGE)
    assert puts.put("k", b"1")
    (thread,) = link.threads
    assert thread.calls == [LARGE, b"1"]
    thread.calls.pop(0)
    assert puts.put("k", b"2")
    assert thread.calls == [b"1", b"2"]
    thread.calls.clear()
    assert puts.put("k", b"3"), "the thread has caught up"
    assert link.soon == [b"3"]
    puts.close()
    assert thread.stopped


def test_what_would_be_late_is_dropped() -> None:
    link = Link()
    puts = puts_over(link)
    assert all(puts.put("k", LARGE) for _ in range(4))
    assert not puts.put("k", b"1")
    (thread,) = link.threads
    thread.calls.pop()
    assert puts.put("k", b"2")


def test_one_envelope_may_be_larger_than_what_may_wait() -> None:
    link = Link()
    puts = puts_over(link)
    assert puts.put("k", 20 * LARGE)
    assert not puts.put("k", LARGE)
    link.threads[0].calls.clear()
    assert puts.put("k", 20 * LARGE)


async def test_large_messages_at_qos_0_cross_an_idle_link_to_one_node_and_by_a_gateway(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["one", "both"], region="far")
    c = await nodes.node("c", a, filters=["both"], region="far")
    await joined(a, b, c)
    for number in range(3):
        for topic in ("one", "both"):
            before = len(b.node.delivered)
            a.publish(topic, bytes([number]) * 9_000_000)
            await until(lambda n=before: len(b.node.delivered) > n, f"{topic} {number}")
    await until(lambda: len(c.node.delivered) == 3)
    assert [m.payload[0] for m in b.node.delivered if m.topic == "one"] == [0, 1, 2]
