"""The examples of docs/rules.md, run from its own text: steps in YAML, then a payload before and after in JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins.rules import Rules

TEXT = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(- .*?)```\n```json\n(.*?)\n(.*?)\n```", TEXT, re.DOTALL)
KEY = "00112233445566778899aabbccddeeff"
"""What stands in the files that the examples name."""


def with_key(step: dict[str, Any]) -> dict[str, Any]:
    return {
        "key" if name == "key_file" else name: KEY if name == "key_file" else v for name, v in step.items()
    }


@pytest.mark.parametrize(("steps", "before", "after"), EXAMPLES)
def test_example(steps: str, before: str, after: str) -> None:
    rules = Rules(*map(with_key, yaml.safe_load(steps)))
    result = rules.one(before)
    rules.close()
    assert result is not None
    assert result.payload.decode() == after


@pytest.mark.parametrize("action", ["patterns", "search", "pseudonymise", "reveal", "date", "grid"])
def test_every_mask_has_an_example(action: str) -> None:
    assert any(f"action: {action}," in steps for steps, _, _ in EXAMPLES)
