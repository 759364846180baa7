"""Retained messages that nodes which meet are not told because a rule fails: counted, told of, and told later."""

from __future__ import annotations

import logging

import pytest

from broker.ports import Failure
from edge_mesh.withheld import Withheld, in_words
from tests.mesh.fakes import FailingPipeline, Meadow, until, with_payload

BROKEN = Failure("mask", "is broken")
SLOW = Failure("mask", "used up its fuel")


async def test_retained_messages_come_once_the_rule_works(
    nodes: Meadow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rule = FailingPipeline("s/#", lambda message: with_payload(message, message.payload and b"***"))
    a = await nodes.node("a", pipeline=rule)
    for number in range(3):
        a.publish(f"s/{number}", b"secret", 1, retain=True)
    a.publish("free", b"free", 1, retain=True)
    rule.fails = {"s/0", "s/1", "s/2"}
    kept_back = a.mesh.kept_back
    b = await nodes.node("b", a)
    c = await nodes.node("c", a)
    withheld = "all of its retained messages: rule mask withholds 3 messages: is broken"
    await until(lambda: caplog.text.count(f"node a does not tell {withheld}") == 2, "both have heard of it")
    assert "free" in b.node.retained
    assert a.mesh.retained_withheld == 3
    assert caplog.text.count("other nodes are not told all retained messages: rule mask withholds 3") == 1
    rule.fails = {"s/2"}
    a.publish("s/1", b"", 1, retain=True)
    for node in (b, c):
        await until(lambda node=node: "s/0" in node.node.retained, seconds=30)  # type: ignore[misc]
        assert node.node.retained["s/0"].payload == b"***"
        assert "s/2" not in node.node.retained
    await until(lambda: a.mesh.retained_withheld == 1)
    rule.fails = set()
    for node in (b, c):
        await until(lambda node=node: "s/2" in node.node.retained, seconds=30)  # type: ignore[misc]
        assert node.node.retained["s/1"].payload == b"", "the deletion, not what was withheld before"
        assert node.node.payloads() == [b""], "what comes late nobody hears as a publication"
    await until(lambda: a.mesh.retained_withheld == 0)
    await until(lambda: "other nodes are told all retained messages again" in caplog.text)
    assert caplog.text.count("other nodes are not told") == 1, "once, until all is told"
    assert a.mesh.kept_back == kept_back, "a question is no publication"


def test_what_fails_is_tried_seldom_whoever_asks() -> None:
    withheld = Withheld()
    withheld.met("b", {"x": BROKEN, "y": BROKEN}, 100.0)
    withheld.met("c", {"x": SLOW}, 100.1)
    assert len(withheld) == 2
    assert withheld.failures("b") == {BROKEN: 1, SLOW: 1}, "as it was last"
    assert withheld.to_try("b", 100.5) == set()
    now, pauses = 100.1, []
    for _ in range(9):
        waited = 0.0
        while not withheld.to_try("b", now + waited):
            assert not withheld.to_try("c", now + waited)
            waited += 0.5
        now += waited
        pauses.append(waited)
        withheld.tried("b", {"x", "y"}, {"x": BROKEN, "y": BROKEN}, now)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60.0
    now += 60.0
    withheld.tried("b", {"x", "y"}, {"y": BROKEN}, now)
    assert withheld.failures("b") == {BROKEN: 1}
    assert withheld.to_try("c", now + 0.5) == {"x"}, "it works for b: c need not wait"
    withheld.tried("c", {"x"}, {}, now + 0.5)
    assert len(withheld) == 1
    assert withheld.failures("c") == {}


def test_nothing_is_owed_to_nodes_that_are_forgotten_or_were_told_all() -> None:
    withheld = Withheld()
    for node in ("b", "c", "d"):
        withheld.met(node, {f"of {node}": BROKEN}, 1.0)
    withheld.keep_nodes(lambda node: node != "b")
    assert len(withheld) == 2
    assert not withheld.to_try("b", 1000.0)
    withheld.met("c", {}, 1000.0)
    assert len(withheld) == 1
    assert not withheld.failures("c")


def test_many_reasons_are_told_in_few_words() -> None:
    withheld = Withheld()
    withheld.met("b", {f"{number}": Failure(f"r{number}", "why") for number in range(30)}, 1.0)
    words = list(in_words(withheld.failures("b")))
    assert len(words) == 11
    assert words[-1] == "20 more are withheld for other reasons"
