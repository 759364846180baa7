"""The fuzzer of the built-in rules, for a moment; and that it would find something."""

from __future__ import annotations

import pytest

from tests.fuzz import rules


def test_a_short_search() -> None:
    found = rules.run(lambda rounds: rounds == 300, seed=1)
    assert min(found.values()) > 20, "new ways are found"


def test_what_breaks_the_contract_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "redacted", lambda value: value)
    with pytest.raises(rules.Broken, match="became"):
        rules.run(lambda rounds: rounds == 300, seed=1)
