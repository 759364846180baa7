"""What is wrong with a plugin of amqtt and its configuration, in words that give no secret away."""

from __future__ import annotations

import dataclasses
import re
from enum import EnumType
from typing import Any

from amqtt.plugins.base import BasePlugin
from amqtt.utils import import_string
from dacite import Config as Strictness
from dacite import from_dict
from dacite.exceptions import DaciteError, MissingValueError, UnexpectedDataError, WrongTypeError

_SECRET = re.compile("secret|passw|token|key|connection|credential", re.IGNORECASE)
_INSTALL = "; amqtt's own need `pip install 'amqtt[contrib]'`"


class PluginsError(Exception):
    """Why plugins cannot be used, in words for the operator."""


def check_plugin(name: str, config: dict[str, Any] | None) -> dict[str, Any]:
    """The configuration as amqtt takes it; nothing is started.

    PluginsError where there is no such plugin, or its configuration does not fit.
    """
    try:
        found = import_string(name)
    except Exception as error:
        # Whatever importing foreign code raises.
        extra = _INSTALL if isinstance(error, ImportError) and name.startswith("amqtt.") else ""
        raise PluginsError(f"{name}: cannot be imported: {_deepest(error)}{extra}") from None
    if not isinstance(found, type) or not issubclass(found, BasePlugin):
        raise PluginsError(f"{name}: is no plugin: allowed are classes derived from amqtt's BasePlugin")
    if not dataclasses.is_dataclass(found.Config):
        raise PluginsError(f"{name}: its Config is no dataclass, as amqtt needs it")
    fitting = _with_members(name, found.Config, config or {})
    try:
        from_dict(data_class=found.Config, data=fitting, config=Strictness(strict=True))
    except (DaciteError, TypeError) as error:
        allowed = [field.name for field in dataclasses.fields(found.Config)]
        raise PluginsError(
            f"{name}: {_misfit(error)}; allowed keys: {', '.join(allowed) or 'none'}"
        ) from None
    return fitting


def _with_members(name: str, kind: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The words of enumerations made their members: amqtt takes nothing else, and YAML has no such thing."""
    found = dict(config)
    for field in dataclasses.fields(kind):
        if field.name not in config or not isinstance(field.type, EnumType):
            continue
        try:
            found[field.name] = field.type(config[field.name])
        except ValueError:
            allowed = ", ".join(str(member.value) for member in field.type)
            raise PluginsError(
                f"{name}: {field.name} is {config[field.name]!r}: allowed: {allowed}"
            ) from None
    return found


def _misfit(error: Exception) -> str:
    # dacite's own words show the value.
    if isinstance(error, UnexpectedDataError):
        return f"{', '.join(sorted(error.keys))} is not a key"
    if isinstance(error, MissingValueError):
        return f"{error.field_path} is required"
    if isinstance(error, WrongTypeError):
        wanted = getattr(error.field_type, "__name__", str(error.field_type))
        return f"{error.field_path} is a {type(error.value).__name__}: allowed: {wanted}"
    return type(error).__name__


def reason_of(error: BaseException, config: dict[str, Any] | None) -> str:
    """What an error says that a plugin raised while it started, without the secrets in its configuration."""
    text = _deepest(error)
    for key, value in (config or {}).items():
        hides = _SECRET.search(key) and not key.endswith(("_file", "_path"))
        if hides and isinstance(value, str) and value:
            text = text.replace(value, "***")
    return text


def _deepest(error: BaseException) -> str:
    """amqtt's own errors say the class only: what caused them says more."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
