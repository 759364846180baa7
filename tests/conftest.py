"""What all tests share: those that are said to prove a statement of MQTT 3.1.1 have to speak 3.1.1."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from tests.protocol import wire

_spoken: dict[str, set[int]] = defaultdict(set)
"""Test that claims to prove a statement of 3.1.1, whatever its parameters -> the versions that it spoke."""
_partly: set[str] = set()
"""Tests of which not every parameter set ran."""


def _name(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    wire.spoken.clear()
    try:
        return (yield)
    finally:
        if item.get_closest_marker("spec311"):
            _spoken[_name(item)] |= wire.spoken


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    _partly.update(map(_name, items))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker is done: what it knows is judged with what the others know."""
    output = getattr(node, "workeroutput", {})
    for name, versions in output.get("spoken", {}).items():
        _spoken[name].update(versions)
    _partly.update(output.get("partly", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        spoken = {name: [int(version) for version in versions] for name, versions in _spoken.items()}
        session.config.workeroutput |= {"spoken": spoken, "partly": list(_partly)}
        return
    chosen = {argument.partition("[")[0] for argument in session.config.args if "[" in argument}
    silent = [name for name, spoken in _spoken.items() if 4 not in spoken and name not in _partly | chosen]
    if silent and not session.shouldstop and not session.testsfailed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nmarked spec311, but not a single packet of 3.1.1:", *silent, sep="\n  ")
