"""The JSON schema of the configuration: what `geomq config schema` prints, for editors."""

from __future__ import annotations

from typing import Any

from broker.config.model import NodeConfig
from broker.config.rules import RulesConfig


def schema() -> dict[str, Any]:
    """The schema of the whole file, the built-in rules' grammar included where `module: rules` stands."""
    whole = NodeConfig.model_json_schema()
    rules = RulesConfig.model_json_schema()
    for name, model in rules.pop("$defs").items():
        if whole["$defs"].setdefault(name, model) != model:
            raise ValueError(f"two models are called {name}")
    is_builtin = {"properties": {"module": {"const": "rules"}}, "required": ["module"]}
    whole["$defs"]["Rule"] |= {"if": is_builtin, "then": {"properties": {"config": rules}}}
    return whole
