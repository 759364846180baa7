"""Which test proves which statement of the standard: read from the markers, told in docs/conformance.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "conformance.md"

HEAD = """# Conformance

The numbered statements of MQTT 5.0 and 3.1.1, in our own words, and the tests that prove them. Written by
`python -m tests.conformance`; `make test` fails when it is out of date, when a statement that binds this broker has no
test, and when a test that is said to prove a statement of 3.1.1 speaks no 3.1.1. Statements that bind clients only, and
features that this broker does not offer, say so.
"""

TABLE = """
## MQTT {version}

{proven} of {binding} statements that bind this broker are proven by tests.

| statement | what it asks | tests |
| --- | --- | --- |
"""


class Edition(NamedTuple):
    """A version of the standard, and the marker that names its statements."""

    version: str
    marker: str


EDITIONS = (Edition("5.0", "spec"), Edition("3.1.1", "spec311"))


class Statement(NamedTuple):
    """A numbered statement; ``binds`` is server, client or absent."""

    number: str
    binds: str
    text: str


def statements(edition: Edition) -> list[Statement]:
    """The catalogue, in the standard's order."""
    text = Path(__file__).with_name(f"mqtt-{edition.version}.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [Statement(*(part.strip() for part in line.split("|", 2))) for line in lines]


def marked(edition: Edition) -> Iterator[tuple[str, str]]:
    """(statement, test) of every marker of an edition, as `tests/engine/test_will.py::test_delay`."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for number in _numbers(node, f"pytest.mark.{edition.marker}"):
                    yield number.removeprefix("MQTT-"), f"{path.relative_to(ROOT)}::{node.name}"


def _numbers(test: ast.FunctionDef | ast.AsyncFunctionDef, marker: str) -> Iterator[str]:
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == marker:
            for argument in decorator.args:
                plain = argument.value if isinstance(argument, ast.Starred) else argument
                value = ast.literal_eval(plain)
                yield from (value,) if isinstance(value, str) else value


def proofs(edition: Edition) -> dict[str, list[str]]:
    """Statement -> its tests."""
    found: dict[str, list[str]] = {}
    for number, test in marked(edition):
        found.setdefault(number, []).append(test)
    return found


def document() -> str:
    """The text of docs/conformance.md."""
    return HEAD + "".join(map(_table, EDITIONS))


def _table(edition: Edition) -> str:
    tests = proofs(edition)
    catalogue = statements(edition)
    binding = [statement for statement in catalogue if statement.binds == "server"]
    proven = [statement for statement in binding if statement.number in tests]
    text = TABLE.format(version=edition.version, proven=len(proven), binding=len(binding))
    for number, binds, asks in catalogue:
        names = ", ".join(f"`{test.split('::')[1]}`" for test in tests.get(number, []))
        why = {"client": "binds clients", "absent": "not offered", "server": "*open*"}[binds]
        text += f"| {number} | {asks} | {names or why} |\n"
    return text
