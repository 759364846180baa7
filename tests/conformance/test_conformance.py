"""The markers name statements that exist, none is without a test, and docs/conformance.md tells it."""

from __future__ import annotations

import pytest

from tests.conformance.report import (
    DOCUMENT,
    EDITIONS,
    Edition,
    document,
    marked,
    proofs,
    statements,
)

BOTH = pytest.mark.parametrize("edition", EDITIONS, ids=lambda edition: edition.version)


@BOTH
def test_markers_name_statements_of_the_standard(edition: Edition) -> None:
    known = {statement.number for statement in statements(edition)}
    unknown = {(number, test) for number, test in marked(edition) if number not in known}
    assert not unknown


@BOTH
def test_catalogue_has_every_statement_once(edition: Edition) -> None:
    numbers = [statement.number for statement in statements(edition)]
    assert len(numbers) == len(set(numbers))
    assert {statement.binds for statement in statements(edition)} == {"server", "client", "absent"}


@BOTH
def test_no_statement_that_binds_the_broker_is_without_a_test(edition: Edition) -> None:
    tests = proofs(edition)
    assert [s.number for s in statements(edition) if s.binds == "server" and s.number not in tests] == []


def test_document_is_current() -> None:
    assert DOCUMENT.read_text() == document(), "run `python -m tests.conformance`"
