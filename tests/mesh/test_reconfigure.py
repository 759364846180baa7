"""Another configuration for a mesh that is at work."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from broker.message import Message
from edge_mesh.link import MeshError
from tests.mesh.fakes import Meadow, Member, joined, until


async def reconfigure(member: Member, **changes: object) -> None:
    member.settings = dataclasses.replace(member.settings, **changes)  # type: ignore[arg-type]
    await member.mesh.reconfigure(member.settings)


@pytest.mark.usefixtures("looking_often")
async def test_bounds_of_the_outbox_hold_at_once(nodes: Meadow, caplog: pytest.LogCaptureFixture) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["t"])
    await joined(a, b)
    await b.mesh.stop()
    await until(lambda: a.sees(), "b is gone")
    link = a.mesh._link._session
    for number in range(20):
        a.publish("t", b"%d" % number + bytes(1000), qos=1)
    await until(lambda: a.peer("b").backlog == 20)
    size = a.mesh.outbox_status()["bytes"]
    with caplog.at_level(logging.WARNING):
        await reconfigure(a, outbox_bytes=size // 2)
        a.publish("t", bytes(1000), qos=1)
        await until(lambda: a.peer("b").ledger["dropped"]["overflow"] > 10, "the oldest are dropped")
        await until(lambda: a.mesh.outbox_status()["alarms"]["dropping"], "the alarm is raised")
    assert caplog.text.count("the outbox is full") == 1
    assert a.mesh.outbox_status()["bytes"] <= size // 2
    assert a.mesh._link._session is link, "the link has not been touched"
    left = a.peer("b").backlog
    assert left == 21 - a.peer("b").ledger["dropped"]["overflow"] >= 8
    again = await nodes.again(b)
    await until(lambda: len(again.node.delivered) == left)
    assert [payload.rstrip(b"\0") for payload in again.node.payloads()] == [
        *(b"%d" % number for number in range(21 - left, 20)),
        b"",
    ]


async def test_bound_of_what_is_told_holds_at_once(nodes: Meadow) -> None:
    filters = [f"site/{number}/x" for number in range(40)]
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=filters)
    await joined(a, b)
    link = b.mesh._link._session
    await reconfigure(b, max_filters=10)
    await until(lambda: a.node.interest["b"] == {"site/#"}, "prefixes are told")
    await reconfigure(b, max_filters=50)
    await until(lambda: a.node.interest["b"] == set(filters), "all are told again")
    assert b.mesh._link._session is link, "the link has not been touched"


async def test_link_is_opened_anew_under_traffic(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", filters=["t/#"])
    c = await nodes.node("c", a, filters=["t/#"])
    await joined(a, c)
    for number in range(200):
        a.publish("t/x", b"%d" % number, qos=1)
        if number == 100:
            await reconfigure(a, connect=b.settings.listen, region="moved")
    await joined(a, b, c)
    a.publish("t/x", b"200", qos=1)
    await until(lambda: len(c.node.delivered) == 201, "nothing is lost")
    assert c.node.payloads() == [b"%d" % number for number in range(201)]
    await until(lambda: b.node.payloads()[-1:] == [b"200"], "the new neighbour hears, too")
    assert b.peer("a").region == c.peer("a").region == "moved"
    await until(lambda: c.peer("a").clock_difference is not None, "pings are answered")


async def test_settings_that_cannot_be_used_change_nothing(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["t"])
    await joined(a, b)
    good = a.settings
    with pytest.raises(MeshError, match="the port is taken"):
        await reconfigure(a, listen=b.settings.listen, region="nowhere")
    await joined(a, b)
    assert b.peer("a").region == "region-a"
    await a.mesh.reconfigure(good)
    a.publish("t", b"1", qos=1)
    await until(lambda: b.node.payloads() == [b"1"])


async def test_node_that_is_refused_stays_so(nodes: Meadow) -> None:
    first = await nodes.node("twin")
    watcher = await nodes.node("watcher", first)
    await joined(watcher, first)
    second = await nodes.start(
        dataclasses.replace(
            nodes.settings("twin", connect=watcher.settings.listen), data_dir=nodes.folder / "2"
        )
    )
    await until(lambda: second.mesh.refused)
    await reconfigure(second, lease_seconds=2.0)
    await until(lambda: second.mesh.refused, "the name is still taken")
    await first.mesh.stop()
    await until(lambda: not second.mesh.refused, "the name is free")
    await until(lambda: watcher.sees("twin"))


async def test_full_outbox_refuses_what_would_wait(nodes: Meadow) -> None:
    a = await nodes.node("a", outbox_bytes=20_000, outbox_full="refuse")
    b = await nodes.node("b", a, filters=["t"])
    c = await nodes.node("c", a, filters=["u"])
    await joined(a, b, c)
    await b.mesh.stop()
    await until(lambda: a.sees("c"), "b is gone")
    taken = 0
    while not a.mesh.refuses(("b",), retain=False, size=0):
        a.publish("t", b"%d" % taken + bytes(1000), qos=1)
        taken += 1
    assert taken == 18, "what has not been committed counts, too"
    assert a.mesh.refuses(("c", "b"), retain=False, size=0)
    assert a.mesh.refuses((), retain=True, size=0)
    assert not a.mesh.refuses(("c",), retain=False, size=0)
    assert not a.mesh.refuses(("nobody",), retain=False, size=0)
    await until(lambda: a.safe == taken, "what was taken is safe")
    await until(lambda: a.mesh.outbox_status()["bytes"] > 18_000)
    assert a.mesh.refuses(("b",), retain=False, size=0)

    a.publish("t", b"held", qos=1)
    await until(lambda: a.peer("b").backlog == taken + 1)
    a.publish("u", b"free", qos=1)
    await until(lambda: a.safe == taken + 1, "what only living nodes want is not held")
    again = await nodes.again(b)
    await until(lambda: len(again.node.delivered) == taken + 1)
    assert a.peer("b").ledger["dropped"]["overflow"] == 0
    await until(lambda: a.safe == taken + 2, "there is room: who was held is acknowledged")
    assert not a.mesh.refuses(("b",), retain=False, size=0)


async def test_messages_of_one_chunk_have_room_together(nodes: Meadow) -> None:
    a = await nodes.node("a", outbox_bytes=20_000, outbox_full="refuse")
    b = await nodes.node("b", a, filters=["t"])
    await joined(a, b)
    assert not a.mesh.refuses(("b",), retain=False, size=19_000), "who is there takes what comes"
    await b.mesh.stop()
    await until(lambda: a.sees(), "b is gone")
    await until(lambda: not a.mesh.refuses(("b",), retain=False, size=0), "what never came needs no room")
    admitted = [not a.mesh.refuses(("b",), retain=False, size=1000) for _ in range(30)]
    assert admitted.count(True) == admitted.index(False) == 19, "the last one may reach into the last tenth"
    a.publish_all([Message("t", bytes(1000), 1) for _ in range(10)])
    assert a.mesh.refuses(("b",), retain=False, size=1000), "the others may be on their way by the disk"
    await until(lambda: a.safe == 1)
    await until(
        lambda: not a.mesh.refuses(("b",), retain=False, size=1000),
        "rules have dropped the others",
    )
    assert a.peer("b").ledger["dropped"]["overflow"] == 0
    while not a.mesh.refuses(("b",), retain=False, size=1000):
        pass
    await until(
        lambda: not a.mesh.refuses(("b",), retain=False, size=1000),
        "what was never handed over needs no room",
    )


async def test_who_was_held_goes_on_when_nobody_is_refused_any_more(nodes: Meadow) -> None:
    a = await nodes.node("a", outbox_bytes=2000, outbox_full="refuse")
    b = await nodes.node("b", a, filters=["t"])
    await joined(a, b)
    await b.mesh.stop()
    await until(lambda: a.sees(), "b is gone")
    a.publish("t", bytes(1850), qos=1)
    await until(lambda: a.safe == 1, "there was room for the first")
    a.publish("t", b"held", qos=1)
    await until(lambda: a.peer("b").backlog == 2)
    assert a.safe == 1
    await reconfigure(a, outbox_full="drop_oldest")
    await until(lambda: a.safe == 2)


async def test_who_waits_for_room_waits_without_a_disk_too(nodes: Meadow) -> None:
    a = await nodes.node("a", outbox_bytes=2000, outbox_full="refuse", durability="memory")
    b = await nodes.node("b", a, filters=["t"], durability="memory")
    await joined(a, b)
    await b.mesh.stop()
    await until(lambda: a.sees(), "b is gone")
    assert not a.publish("t", bytes(1850), qos=1)
    assert a.publish("t", b"held", qos=1)
    await until(lambda: a.peer("b").backlog == 2)
    assert a.safe == 0
    again = await nodes.again(b)
    await until(lambda: len(again.node.delivered) == 2)
    await until(lambda: a.safe == 1)
