"""The reference of the configuration, from the model itself: what `geomq config reference` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broker.config.model import NodeConfig

HEAD = """# Reference of the configuration

Every key, as `geomq config reference` prints it. [configuration.md](configuration.md) explains how they go together.
"""


def reference() -> str:
    """All keys in Markdown, a table for each section."""
    schema = NodeConfig.model_json_schema()
    text = HEAD
    for title, section in _sections(schema, schema, ""):
        text += f"\n## {title or 'The file'}\n\n"
        if section.get("description"):
            text += f"{section['description']}\n\n"
        text += "| key | default | meaning |\n| --- | --- | --- |\n"
        for name, entry in section["properties"].items():
            text += f"| `{name}` | {_default(section, name, entry)} | {_meaning(schema, entry)} |\n"
    return text


def _sections(
    schema: dict[str, Any], section: dict[str, Any], path: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, the section) from the top down."""
    yield path, section
    for name, entry in section["properties"].items():
        for part, suffix in _parts(entry):
            found = _resolve(schema, part)
            if "properties" in found:
                yield from _sections(schema, found, f"{path}.{name}{suffix}".lstrip("."))


def _parts(entry: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The schemas in an entry, and how the path goes on: a list's elements, a mapping's values, alternatives."""
    yield entry, ""
    if "items" in entry:
        yield entry["items"], "[]"
    if isinstance(entry.get("additionalProperties"), dict):
        yield entry["additionalProperties"], ".NAME"
    for part in entry.get("anyOf", ()):
        yield part, ""


def _resolve(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    if reference is None:
        return part
    found: dict[str, Any] = schema["$defs"][reference.rsplit("/", 1)[1]]
    return found


def _default(section: dict[str, Any], name: str, entry: dict[str, Any]) -> str:
    if name in section.get("required", ()):
        return "*needed*"
    if "default" not in entry:
        return ""
    value = entry["default"]
    if value in (None, "", [], {}):
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`"


def _meaning(schema: dict[str, Any], entry: dict[str, Any]) -> str:
    allowed = [str(value) for part, _ in _parts(entry) for value in part.get("enum", ())]
    described = entry.get("description") or _resolve(schema, entry).get("description", "")
    text = str(described).replace("|", "\\|")
    return f"{text} Allowed: {', '.join(f'`{value}`' for value in allowed)}." if allowed else text
