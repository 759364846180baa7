"""The markers name statements that exist, and docs/conformance.md tells what they prove."""

from __future__ import annotations

from tests.conformance.report import DOCUMENT, document, marked, statements


def test_markers_name_statements_of_the_standard() -> None:
    known = {statement.number for statement in statements()}
    unknown = {(number, test) for number, test in marked() if number not in known}
    assert not unknown


def test_catalogue_has_every_statement_once() -> None:
    numbers = [statement.number for statement in statements()]
    assert len(numbers) == len(set(numbers))
    assert {statement.binds for statement in statements()} == {"server", "client", "absent"}


def test_document_is_current() -> None:
    assert DOCUMENT.read_text() == document(), "run `python -m tests.conformance`"
