"""Nodes find each other, interest travels, messages cross: over real Zenoh sessions on loopback."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from broker.message import Message, Run
from edge_mesh.client import query_status
from edge_mesh.link import MeshError
from tests.mesh.fakes import (
    FakePipeline,
    Meadow,
    Member,
    SlowPipeline,
    joined,
    until,
    with_payload,
)
from tests.mesh.relay import Relay
from tests.ports import free_port


async def test_two_nodes_find_each_other_by_endpoint(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a)
    await joined(a, b)
    assert a.peer("b").region == "region-b"
    assert b.peer("a").since <= time.time()


async def test_nodes_find_each_other_by_scouting(nodes: Meadow) -> None:
    address = f"224.0.0.224:{free_port()}"
    a, b, c = [
        await nodes.node(name, scouting=True, scouting_address=address, filters=[f"{name}/#"])
        for name in "abc"
    ]
    await joined(a, b, c)
    a.publish("c/x", b"1", qos=1)
    await until(lambda: c.node.payloads() == [b"1"])


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_message_crosses(nodes: Meadow, qos: int) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["room/+"])
    await joined(a, b)
    waits = a.publish("room/1", b"warm", qos, properties=b"\x03\x00\x04text", expires_at=time.time() + 100)
    assert waits == (qos > 0)
    await until(lambda: b.node.delivered)
    (message,) = b.node.delivered
    assert (message.topic, message.payload, message.qos, message.retain) == ("room/1", b"warm", qos, False)
    assert message.properties == b"\x03\x00\x04text"
    assert message.origin == "a"
    assert message.publisher == ""
    assert 90 < message.expires_at - time.time() <= 100
    if qos:
        await until(lambda: a.safe == 1, "the publisher may be told that the message is safe")
        await until(lambda: a.peer("b").backlog == 0, "the outbox is empty again")


async def test_line_of_three_relays_once(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["t/#"])
    c = await nodes.node("c", b, filters=["t/#"])
    await joined(a, b, c)
    for number in range(20):
        a.publish("t/x", b"%d" % number, qos=number % 3)
    await until(lambda: len(b.node.delivered) == 20 and len(c.node.delivered) == 20)
    b.publish("t/end", b"end", qos=0)
    c.publish("t/end", b"end", qos=0)
    await until(
        lambda: len(a.node.delivered) == 0 and len(c.node.delivered) == 21 and len(b.node.delivered) == 21
    )
    for node in (b.node, c.node):
        assert sorted(node.payloads()[:20]) == sorted(b"%d" % number for number in range(20))
        assert [m.payload for m in node.delivered if m.qos == 0 and m.origin == "a"] == [
            b"%d" % number for number in range(0, 20, 3)
        ]


async def test_interest_follows_subscriptions(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["x/#"])
    await joined(a, b)
    b.subscribe("x/y")
    b.subscribe("$SYS/#")
    b.subscribe("$share/group/z/+")
    await until(lambda: a.node.interest["b"] == {"x/#", "z/+"})
    b.unsubscribe("x/#")
    await until(lambda: a.node.interest["b"] == {"x/y", "z/+"})
    b.unsubscribe("x/y")
    b.unsubscribe("$share/group/z/+")
    await until(lambda: a.node.interest["b"] == set())


async def test_lost_interest_change_is_noticed(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a)
    await joined(a, b)
    b.node.filters.append("lost/#")
    # As if the put had been lost on its way: the version moves on, nobody hears what changed.
    b.mesh._interest.add("lost/#")
    b.mesh._interest.take_change()
    await until(lambda: a.node.interest.get("b") == {"lost/#"}, "the next ping shows the gap")


async def test_interest_that_is_known_wrongly_is_repaired(
    nodes: Meadow, caplog: pytest.LogCaptureFixture
) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["kept/#"])
    await joined(a, b)
    b.node.filters.append("right/#")
    b.mesh._interest.add("right/#")
    change = b.mesh._interest.take_change()
    # As if something on the way, or in memory, had made another change of it.
    a.mesh._on_interest((a.mesh._keys.interest("b"), change._replace(added=("wrong/#",)).encode()))
    assert a.node.interest["b"] == {"kept/#", "wrong/#"}
    await until(lambda: a.node.interest["b"] == {"kept/#", "right/#"}, "the next ping's digest shows it")
    assert caplog.text.count("known wrongly here") == 1


async def test_very_many_filters_are_told_in_parts_and_widened(nodes: Meadow) -> None:
    long = "x" * 1000
    filters = [f"site/{number}/{long}" for number in range(300)]
    a = await nodes.node("a", filters=["site/+/y"])
    b = await nodes.node("b", a, filters=filters, max_filters=350)
    await until(lambda: a.node.interest.get("b") == set(filters), "the snapshot came in parts")
    for number in range(60):
        b.subscribe(f"site/7/{number}")
    await until(lambda: "site/7/#" in a.node.interest["b"], "the narrowest prefix that helps is widened")
    assert len(a.node.interest["b"]) <= 350
    assert f"site/8/{long}" in a.node.interest["b"]
    a.publish("site/7/unwanted", b"", 1)
    a.publish("site/7/5", b"5", 1)
    await until(lambda: b.node.payloads() == [b"", b"5"], "what else is in the prefix crosses, too")


async def test_clean_leave_is_noticed_and_what_comes_later_waits(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["t"])
    await joined(a, b)
    await b.mesh.stop()
    await until(lambda: a.sees(), "the token is gone")
    for number in range(10):
        a.publish("t", b"%d" % number, qos=1)
    a.publish("t", b"lost", qos=0)
    await until(lambda: a.peer("b").backlog == 10)
    assert a.safe == 10
    assert a.peer("b").live_dropped == 1
    again = await nodes.again(b)
    await until(lambda: len(again.node.delivered) == 10)
    assert again.node.payloads() == [b"%d" % number for number in range(10)]
    await until(lambda: a.peer("b").backlog == 0)
    assert a.peer("b").ledger["acknowledged"] == 10


def alive(member: Member) -> set[str]:
    return {peer.name for peer in member.mesh.peers() if peer.alive}


async def test_node_that_was_forgotten_gets_everything_from_its_return_on(
    nodes: Meadow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_mesh.mesh._PRUNE_SECONDS", 0.1)
    a = await nodes.node("a", retention_seconds=0.5)
    b = await nodes.node("b", a, filters=["t"])
    await joined(a, b)
    for number in range(20):
        a.publish("t", b"%d" % number, qos=1)
    await until(lambda: len(b.node.delivered) == 20)
    await b.mesh.stop()
    await until(lambda: a.sees(), "the token is gone")
    for number in range(20, 30):
        a.publish("t", b"%d" % number, qos=1)
    assert a.mesh.forgotten() == {}
    await until(lambda: not a.mesh.peers(), "it is forgotten")
    await until(lambda: sum(a.mesh.forgotten()["b"]["dropped"].values()) == 10, "its account is still told")
    again = await nodes.again(b)
    await joined(a, again)
    for number in range(30, 40):
        a.publish("t", b"%d" % number, qos=1)
    await until(lambda: len(again.node.delivered) == 10)
    assert again.node.payloads() == [b"%d" % number for number in range(30, 40)]
    await until(lambda: a.peer("b").ledger["acknowledged"] == 30)
    assert a.peer("b").ledger["accepted"] == 40, "the account is the old one"
    assert sum(a.peer("b").ledger["dropped"].values()) == 10
    assert a.mesh.forgotten() == {}


async def test_node_whose_clock_was_set_back_before_it_was_restarted_is_heard(
    nodes: Meadow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new epoch, and its incarnation, are smaller than those of its former life."""
    filters = ["t"]
    members = [await nodes.node("b", filters=filters, region="far")]
    members.append(await nodes.node("c", members[0], filters=filters, region="far"))
    a = await nodes.node("a", *members, durability="memory", data_dir=None)
    await joined(a, *members)
    for number in range(3):
        a.publish("t", b"%d" % number, qos=1)
    await until(lambda: all(len(member.node.delivered) == 3 for member in members))
    await a.mesh.stop()
    await until(lambda: all("a" not in alive(member) for member in members), "a is gone")
    now, now_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now() - 3600.0)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() - 3600 * 10**9)
    again = await nodes.again(a)
    monkeypatch.undo()
    late = await nodes.node("d", *members, filters=filters, region="far")
    await joined(again, *members, late)
    for number in range(3, 9):
        again.publish("t", b"%d" % number, qos=1)
    for member in members:
        await until(lambda m=member: len(m.node.delivered) >= 9, "all of them are heard")
        assert member.node.payloads() == [b"%d" % number for number in range(9)]
    await until(lambda: len(late.node.delivered) >= 6)
    assert late.node.payloads() == [b"%d" % number for number in range(3, 9)]
    await until(lambda: not any(peer.backlog for peer in again.mesh.peers()), "all is acknowledged")


async def test_many_messages_beyond_the_window_arrive_in_order(nodes: Meadow) -> None:
    a = await nodes.node("a", window_bytes=20_000)
    b = await nodes.node("b", a, filters=["t/#"])
    await joined(a, b)
    expected = [b"%d" % number for number in range(5000)]
    for start in range(0, 5000, 100):
        a.publish_all([Message("t/x", payload, 1) for payload in expected[start : start + 100]])
        await asyncio.sleep(0)
    await until(lambda: len(b.node.delivered) >= 5000, "all arrive", 30)
    assert b.node.payloads() == expected
    await until(lambda: a.peer("b").backlog == 0)


async def test_large_message_crosses(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["t"])
    await joined(a, b)
    payload = bytes(range(256)) * 16_384
    a.publish("t", payload, qos=1)
    await until(lambda: b.node.payloads() == [payload])


async def test_memory_durability_waits_for_nobody(nodes: Meadow) -> None:
    a = await nodes.node("a", durability="memory", data_dir=None)
    b = await nodes.node("b", a, durability="memory", data_dir=None, filters=["t"])
    await joined(a, b)
    assert a.publish("t", b"1", qos=1) is False
    await until(lambda: b.node.payloads() == [b"1"])
    await until(lambda: a.peer("b").ledger["acknowledged"] == 1)
    assert not list(nodes.folder.rglob("*.db"))
    assert a.safe == 0


async def test_taken_name_is_refused(nodes: Meadow, caplog: pytest.LogCaptureFixture) -> None:
    hub = await nodes.node("hub")
    first = await nodes.node("twin", hub, filters=["t"])
    await joined(hub, first)
    second = await nodes.node("twin", hub, filters=["other"], data_dir=nodes.folder / "second")
    await until(lambda: second.mesh.refused, "the newcomer finds its name taken")
    assert "'twin' is taken by another living node" in caplog.text
    assert not first.mesh.refused
    hub.publish("t", b"for the first", qos=1)
    await until(lambda: first.node.payloads() == [b"for the first"])
    assert second.node.delivered == []
    statuses: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(15):
        # Zenoh learns a moment later whom to ask than who is there.
        while "twin (refused)" not in statuses:
            statuses = await query_status([f"tcp/127.0.0.1:{hub.port}"], nodes.namespace)
    assert {name: status["refused"] for name, status in statuses.items()} == {
        "hub": False,
        "twin": False,
        "twin (refused)": True,
    }
    assert hub.node.interest["twin"] == {"t"}
    second.subscribe("meanwhile")
    await first.mesh.stop()
    await until(lambda: not second.mesh.refused, "the name is free again")
    await until(lambda: hub.node.interest["twin"] == {"other", "meanwhile"}, "the second has its place")


async def test_taken_port_is_a_clear_error(nodes: Meadow) -> None:
    a = await nodes.node("a")
    with pytest.raises(MeshError, match=f"cannot listen on tcp/127.0.0.1:{a.port}: the port is taken"):
        await nodes.node("b", listen=a.settings.listen)


async def test_round_trip_and_status(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a)
    await joined(a, b)
    await until(lambda: a.peer("b").round_trip_ms is not None)
    assert 0 < a.peer("b").round_trip_ms < 1000
    assert await query_status([f"tcp/127.0.0.1:{a.port}"], nodes.namespace) == {
        "a": {"node": "a", "peers": 1, "refused": False},
        "b": {"node": "b", "peers": 1, "refused": False},
    }
    assert a.peer("b").as_dict()["alive"] is True


async def test_meshes_with_other_namespaces_are_not_seen(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a)
    stranger = await nodes.node("s", a, namespace=nodes.namespace + "-other")
    await joined(a, b)
    assert a.sees("b")
    assert stranger.mesh.peers() == []


async def test_retained_messages_are_told_when_nodes_meet(nodes: Meadow) -> None:
    a = await nodes.node("a")
    for topic in ("x/1", "x/2", "$own/3"):
        a.publish(topic, topic.encode(), qos=1, retain=True)
    b = await nodes.node("b", a)
    await until(lambda: set(b.node.retained) == {"x/1", "x/2"}, "the snapshot came")
    assert b.node.delivered == [], "a snapshot is no publication"
    await b.mesh.stop()
    await until(lambda: a.sees(), "b is gone")
    a.publish("x/1", b"", qos=1, retain=True)
    a.publish("x/2", b"newer", qos=1, retain=True)
    again = await nodes.again(b)
    await until(lambda: again.node.retained.get("x/2") and again.node.retained["x/2"].payload == b"newer")
    await until(lambda: again.node.retained["x/1"].payload == b"", "the deletion is known")


async def test_retained_messages_are_told_only_to_who_is_sent_the_next_ones(nodes: Meadow) -> None:
    """Else what is published before this node has seen the asker's token would be missing there for good."""
    a = await nodes.node("a")
    b = await nodes.node("b", a)
    await joined(a, b)
    a.publish("x", b"1", retain=True)
    parts = []
    for asker in (b"stranger", b"b"):
        replies = b.mesh._link.ask(b.mesh._keys.query("a", "retained"), asker, 5.0)
        await asyncio.wait_for(replies.finished, 5.0)
        parts.append(len(replies.answers))
    assert parts == [0, 1]


async def test_egress_rules_stand_before_every_door(nodes: Meadow) -> None:
    """What a rule drops or changes is so on both lanes and in snapshots."""

    def rule(message: Message) -> Message | None:
        return None if message.topic == "s/drop" else with_payload(message, b"***")

    a = await nodes.node("a", pipeline=FakePipeline("s/#", rule))
    b = await nodes.node("b", a, filters=["#"])
    await joined(a, b)
    for qos in (0, 1, 2):
        for topic in ("s/drop", "s/mask"):
            a.publish(topic, b"secret", qos)
    a.publish("s/kept", b"secret", 1, retain=True)
    a.publish("s/drop", b"secret", 1, retain=True)
    a.publish("done", b"done", 1)
    await until(lambda: b"done" in b.node.payloads())
    await until(lambda: len(b.node.delivered) == 5)
    late = await nodes.node("late", a)
    await until(lambda: "s/kept" in late.node.retained)
    heard = b.node.delivered + list(b.node.retained.values()) + list(late.node.retained.values())
    assert not [message for message in heard if b"secret" in message.payload or message.topic == "s/drop"]
    assert "s/drop" not in late.node.retained
    assert a.mesh.kept_back >= 4


async def test_slow_egress_rules_let_nothing_by(nodes: Meadow) -> None:
    def rule(message: Message) -> Message | None:
        return None if message.topic == "s/drop" else with_payload(message, b"***" + message.payload[-2:])

    slow = SlowPipeline("s/#", rule)
    a = await nodes.node("a", pipeline=slow)
    b = await nodes.node("b", a, filters=["#"])
    await joined(a, b)
    for number in range(5):
        assert a.publish("s/mask", b"secret%02d" % number, number % 2)
        a.publish("s/drop", b"secret", 1)
        a.publish("free", b"%d" % number, 1)
    a.publish("s/kept", b"secret05", 1, retain=True)
    await until(lambda: len(b.node.delivered) == 5, "others wait for nobody")
    assert {message.topic for message in b.node.delivered} == {"free"}
    safe = a.safe
    slow.finish()
    await until(lambda: len(b.node.delivered) == 11)
    await until(lambda: a.safe == safe + 11, "each is safe, or dropped, once")
    masked = [(message.qos, message.payload) for message in b.node.delivered if message.topic == "s/mask"]
    for qos, numbers in ((0, (0, 2, 4)), (1, (1, 3))):
        assert [payload for q, payload in masked if q == qos] == [b"***%02d" % number for number in numbers]
    late = await nodes.node("late", a)
    await until(lambda: bool(slow.waiting), "it asks for what is retained")
    slow.finish()
    await until(lambda: "s/kept" in late.node.retained)
    assert late.node.retained["s/kept"].payload == b"***05"
    assert a.mesh.kept_back == 5


async def test_node_that_dies_is_noticed(nodes: Meadow) -> None:
    a = await nodes.node("a")
    relay = Relay(a.port)
    relay.start()
    b = await nodes.node("b", relay.port)
    await joined(a, b)
    relay.cut()
    await until(lambda: a.sees() and b.sees(), "both notice within the lease", 10)
    relay.heal()
    await until(lambda: a.sees("b") and b.sees("a"), "they meet again", 15)
    relay.stop()


async def test_runs_cross_in_order_with_what_is_sent_one_by_one_and_are_counted(nodes: Meadow) -> None:
    a = await nodes.node("a")
    b = await nodes.node("b", a, filters=["room/+"])
    await joined(a, b)

    # Zenoh drops what comes while its routes are new.
    await until(lambda: a.publish("room/1", b"warm") or b.node.delivered)
    a.publish("room/1", b"last")
    await until(lambda: b.node.payloads()[-1] == b"last")
    warm, sent, received = len(b.node.delivered), a.peer("b").sent, b.peer("a").received
    numbers = [b"%06d" % number for number in range(30_000)]
    for start in range(0, len(numbers), 3000):
        a.publish_run(Run("room/1", b"".join(numbers[start : start + 2999]), 6))
        a.publish("room/1", numbers[start + 2999])
        await until(lambda count=warm + start + 3000: len(b.node.delivered) == count)
    assert b.node.payloads()[warm:] == numbers
    assert {(message.origin, message.publisher) for message in b.node.delivered} == {("a", "")}
    assert a.peer("b").sent - sent == b.peer("a").received - received == len(numbers)


async def test_egress_rules_see_each_message_of_a_run(nodes: Meadow) -> None:
    def rule(message: Message) -> Message | None:
        return None if message.payload == b"2" else with_payload(message, message.payload * 2)

    a = await nodes.node("a", pipeline=FakePipeline("s/#", rule))
    b = await nodes.node("b", a, filters=["#"])
    await joined(a, b)
    await until(lambda: a.publish("warm", b"") or b.node.delivered, "the route is there")
    a.publish_run(Run("s/x", b"123", 1, "device"))
    await until(lambda: [p for p in b.node.payloads() if p] == [b"11", b"33"])


async def test_what_is_durable_waits_for_clients_that_are_crowded(nodes: Meadow) -> None:
    a = await nodes.node("a", window_bytes=50_000)
    b = await nodes.node("b", a, filters=["#"])
    await joined(a, b)
    b.node.crowded = True
    for number in range(2000):
        a.publish("t", b"%050d" % number, 1)
    await until(lambda: a.publish("live", b"") or b.node.delivered, "what may be lost does not wait")
    await until(lambda: a.peer("b").backlog == 2000, "all are in the outbox")
    assert {message.topic for message in b.node.delivered} == {"live"}
    b.node.crowded = False
    await until(lambda: len([p for p in b.node.payloads() if p]) == 2000)
    assert [int(p) for p in b.node.payloads() if p] == list(range(2000))
    await until(lambda: a.peer("b").backlog == 0)
