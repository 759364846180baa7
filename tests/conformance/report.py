"""Which test proves which statement of the standard: read from the markers, told in docs/conformance.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "conformance.md"
STATEMENTS = Path(__file__).with_name("mqtt5.txt")

HEAD = """# Conformance

The numbered statements of MQTT 5.0, in our own words, and the tests that prove them. Written by
`python -m tests.conformance`; `make test` fails when it is out of date. Where MQTT 3.1.1 has the same rule the tests
run for both versions. Statements that bind clients only, and features that this broker does not offer, say so.

{proven} of {binding} statements that bind this broker are proven by tests; the others are marked *open*.

| statement | what it asks | tests |
| --- | --- | --- |
"""


class Statement(NamedTuple):
    """A numbered statement; ``binds`` is server, client or absent."""

    number: str
    binds: str
    text: str


def statements() -> list[Statement]:
    """The catalogue, in the standard's order."""
    lines = [line for line in STATEMENTS.read_text().splitlines() if line and not line.startswith("#")]
    return [Statement(*(part.strip() for part in line.split("|", 2))) for line in lines]


def marked() -> Iterator[tuple[str, str]]:
    """(statement, test) of every marker `spec`, as `tests/engine/test_will.py::test_delay`."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.spec":
                        for argument in decorator.args:
                            number = ast.literal_eval(argument).removeprefix("MQTT-")
                            yield number, f"{path.relative_to(ROOT)}::{node.name}"


def tests_by_statement() -> dict[str, list[str]]:
    """Statement -> its tests."""
    found: dict[str, list[str]] = {}
    for number, test in marked():
        found.setdefault(number, []).append(test)
    return found


def document() -> str:
    """The text of docs/conformance.md."""
    tests = tests_by_statement()
    binding = [statement for statement in statements() if statement.binds == "server"]
    proven = [statement for statement in binding if statement.number in tests]
    text = HEAD.format(proven=len(proven), binding=len(binding))
    for number, binds, asks in statements():
        names = ", ".join(f"`{test.split('::')[1]}`" for test in tests.get(number, []))
        why = {"client": "binds clients", "absent": "not offered", "server": "*open*"}[binds]
        text += f"| {number} | {asks} | {names or why} |\n"
    return text
