"""The audit log: a line each, and not a flood."""

from __future__ import annotations

import pytest

from broker.observe.journal import AuditLog
from broker.ports import Party


def test_flood_is_told_as_a_number(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog()
    for number in range(1000):
        log.note("denied", Party(f"c{number}", "joe", "192.0.2.1", "tls"), "publish to 'a'")
    log.note("slow", Party("c"), "took nothing")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "denied: client='c0' user='joe' address=192.0.2.1 listener='tls': publish to 'a'"
    assert lines[-1] == "slow: client='c' user=- address=- listener='': took nothing"
    assert len(lines) == 21
    log.tick()
    assert caplog.records[-1].getMessage() == "denied: 980 more like these"
    log.tick()
    log.note("denied", Party("c"), "again")
    assert caplog.records[-1].getMessage().endswith("again")


def test_flood_that_lasts_takes_little_room(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog()
    for _ in range(600):
        for number in range(100):
            log.note("denied", Party(f"c{number}"), "publish to 'a'")
        log.tick()
    lines = [record.getMessage() for record in caplog.records]
    told = sum(int(line.split()[1]) for line in lines if line.endswith("more like these"))
    assert len(lines) < 20 + 600 + 60 + 1
    log.tick()
    assert 60_000 - 1000 <= told + len(lines) <= 60_000 + 60
    for _ in range(30):
        log.tick()
    caplog.clear()
    for number in range(20):
        log.note("denied", Party(f"c{number}"), "publish to 'a'")
    assert len(caplog.records) == 20, "all is as at the beginning"


def test_names_cannot_forge_lines(caplog: pytest.LogCaptureFixture) -> None:
    forged = "a'\nINFO: all is well"
    AuditLog().note("denied", Party(forged, forged, "192.0.2.1", "tls"), "x")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    assert line.count(repr(forged)) == 2


def test_long_names_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    AuditLog().note("denied", Party("c" * 65_535, "u" * 65_535), "x")
    assert len(caplog.records[0].getMessage()) < 400
