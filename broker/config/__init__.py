"""A node's configuration: what may be said, and how it is read from a file and the environment."""

from broker.config.doubts import doubts, doubts_of_rules
from broker.config.listeners import Listener
from broker.config.model import NodeConfig, Rule
from broker.config.read import ConfigError, Problem, Reading, dotted, load, load_text, read, read_rules

__all__ = [
    "ConfigError",
    "Listener",
    "NodeConfig",
    "Problem",
    "Reading",
    "Rule",
    "dotted",
    "doubts",
    "doubts_of_rules",
    "load",
    "load_text",
    "read",
    "read_rules",
]
