"""The audit log: a line each, and not a flood."""

from __future__ import annotations

import pytest

from broker.observe.journal import AuditLog


def test_flood_is_told_as_a_number(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog()
    for number in range(1000):
        log.note("denied", f"c{number}", "192.0.2.1", "publish to 'a'")
    log.note("slow", "c", "", "took nothing")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "denied: client 'c0' at 192.0.2.1: publish to 'a'"
    assert lines[-1] == "slow: client 'c' at ?: took nothing"
    assert len(lines) == 21
    log.tick()
    assert caplog.records[-1].getMessage() == "denied: 980 more like these"
    log.tick()
    log.note("denied", "c", "192.0.2.1", "again")
    assert caplog.records[-1].getMessage().endswith("again")


def test_names_cannot_forge_lines(caplog: pytest.LogCaptureFixture) -> None:
    AuditLog().note("denied", "a\nINFO: all is well", "192.0.2.1", "x")
    assert "\n" not in caplog.records[0].getMessage()
