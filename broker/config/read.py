"""Reading a configuration: YAML with the line of every key, the environment on top, mistakes in clear words."""

from __future__ import annotations

import contextlib
import difflib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from broker.config import rules
from broker.config.base import Mistakes
from broker.config.doubts import doubts
from broker.config.model import NodeConfig, PluginsSection

PREFIX = "GEOMQ_"
_NOT_KEYS = ("GEOMQ_CONFIG",)
"""Variables of the command line, not of the configuration."""

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

KeyPath = tuple[str | int, ...]
Places = dict[KeyPath, str]


class Problem(NamedTuple):
    """One mistake. ``where`` is `file:line` or the variable that it stands in."""

    where: str
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class ConfigError(ValueError):
    """A configuration that cannot be used; ``problems`` has every mistake that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Reading(NamedTuple):
    """What a file came to: its mistakes, and as much of the configuration as has none."""

    name: str
    """How the file is called in messages."""
    config: NodeConfig | None
    """Without the sections that are wrong, where it is worth anything without them. What the built-in rules are told
    stands in it even where it is wrong."""
    places: Places
    problems: list[Problem]

    def problem(self, key: KeyPath, text: str) -> Problem:
        """A mistake in the value of a key, found by who knows more about it."""
        return Problem(_where(key, self.places, self.name), dotted(key), text)

    def doubts(self) -> list[Problem]:
        """What is seldom meant, and no mistake."""
        return [self.problem(key, text) for key, text in doubts(self.config)] if self.config else []


def load(path: Path | None, environment: Mapping[str, str]) -> NodeConfig:
    """The configuration of a file (None for the defaults), with the environment's changes.

    A relative `node.data` is resolved against the file's folder, or the current one without a file.
    ConfigError tells every mistake.
    """
    return _whole(read(path, environment))


def read(path: Path | None, environment: Mapping[str, str]) -> Reading:
    """As :func:`load`, with the mistakes in what it returns; ConfigError where the file is no YAML at all."""
    if path is None:
        return _read_text("", "defaults", environment, Path.cwd())
    return _read_text(_text(path), str(path), environment, path.resolve().parent)


def read_rules(path: Path, stage: str) -> Reading:
    """The rules of a file: a node's whole configuration, its section `plugins`, or entries (one, or a list) as they
    stand under `plugins.STAGE`.

    ConfigError tells every mistake; where there is none the reading has a configuration.
    """
    name = str(path)
    document, places = _parse(_text(path), name)
    above: KeyPath = ()
    if isinstance(document, dict) and not document.keys().isdisjoint(("name", "topics", "module")):
        document, above = {"plugins": {stage: [document]}}, ("plugins", stage, 0)
    elif isinstance(document, list):
        document, above = {"plugins": {stage: document}}, ("plugins", stage)
    elif isinstance(document, dict) and document and document.keys() <= PluginsSection.model_fields.keys():
        document, above = {"plugins": document}, ("plugins",)
    elif isinstance(document, dict) and "steps" in document:
        text = "stands in the `config` of an entry; on its own: `geomq plugin test rules --config FILE`"
        raise ConfigError([Problem(places["steps",], "steps", text)])
    elif not isinstance(document, dict):
        raise ConfigError([Problem(f"{name}:1", "", "holds no rules, nor a node's configuration")])
    first = next(iter(places.values()), name)
    places = {above: first} | {(*above, *key): place for key, place in places.items()}
    reading = _validated(document, places, name, path.resolve().parent)
    _whole(reading)
    return reading


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), "", "cannot be read: it is not UTF-8")]) from None


def load_text(
    text: str,
    name: str = "configuration",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> NodeConfig:
    """The configuration in a text; ``name`` stands for the file in messages."""
    return _whole(_read_text(text, name, environment or {}, folder or Path.cwd()))


def _whole(reading: Reading) -> NodeConfig:
    if reading.problems or reading.config is None:
        raise ConfigError(reading.problems)
    return reading.config


def _read_text(text: str, name: str, environment: Mapping[str, str], folder: Path) -> Reading:
    document, places = _parse(text, name)
    if isinstance(document, dict):
        _override(document, environment, places)
    return _validated(document, places, name, folder)


def _validated(document: Any, places: Places, name: str, folder: Path) -> Reading:
    if not isinstance(document, dict):
        raise ConfigError([Problem(f"{name}:1", "", "is not a mapping of keys; see `geomq config schema`")])
    # A section whose keys are all commented out is one that keeps its defaults.
    document = {key: value for key, value in document.items() if value is not None}
    context = {"folder": folder}
    try:
        config = NodeConfig.model_validate(document, context=context)
    except ValidationError as error:
        problems = [problem for one in error.errors() for problem in _problems(dict(one), places, name)]
        wrong = {one["loc"][0] for one in error.errors() if one["loc"]}
    else:
        return Reading(name, config, places, _rule_problems(config, places, name))
    rest = {key: value for key, value in document.items() if key not in wrong}
    return Reading(name, _rest(rest, context), places, problems)


def _rule_problems(config: NodeConfig, places: Places, name: str) -> list[Problem]:
    """What is wrong with the built-in rules, whose configuration the node only hands on."""
    problems: list[Problem] = []
    for stage in ("ingress", "egress", "store"):
        for index, rule in enumerate(getattr(config.plugins, stage)):
            if rule.module != "rules":
                continue
            above: KeyPath = ("plugins", stage, index, "config")
            if "steps" not in rule.config:
                # The module would let everything pass: who forgot a mask's `config` should not find out abroad.
                steps = (*above, "steps")
                problems.append(Problem(_where(steps, places, name), dotted(steps), "is required"))
            found = rules.mistakes(rule.config)
            problems += (_problem(one, places, name, above, rules.RulesConfig) for one in found)
    return problems


def _rest(document: dict[str, Any], context: dict[str, Any]) -> NodeConfig | None:
    """What is right in a configuration that is wrong elsewhere; None where it makes no sense by itself."""
    with contextlib.suppress(ValidationError):
        return NodeConfig.model_validate(document, context=context)
    return None


# -- YAML ------------------------------------------------------------------------------------------------


def _parse(text: str, name: str) -> tuple[Any, Places]:
    """(the document, where each key stands)."""
    loader = _LOADER(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return {}, {}
        places: Places = {}
        problems: list[Problem] = []
        _walk(root, (), name, places, problems)
        if problems:
            raise ConfigError(problems)
        document = loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ConfigError([_yaml_problem(error, name)]) from None
    finally:
        loader.dispose()
    return document, places


def _walk(node: Any, at: KeyPath, name: str, places: Places, problems: list[Problem]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            here = (*at, str(key.value))
            line = f"{name}:{key.start_mark.line + 1}"
            places[here] = line
            if key.value in seen:
                problems.append(Problem(line, dotted(here), "stands there twice"))
            seen.add(key.value)
            _walk(value, here, name, places, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*at, index)
            places[here] = f"{name}:{value.start_mark.line + 1}"
            _walk(value, here, name, places, problems)


_YAML_HINTS = {
    "alphabetic or numeric": 'a text that begins with * or & stands in quotes: "**.name"',
    "cannot start any token": "spaces indent, not tabs; a text that begins with @, % or ` stands in quotes",
    "',' or '}'": 'a text with braces stands in quotes: "{region}/x"; or a comma is missing',
    "mapping values are not allowed": "a text with a colon and a space stands in quotes; or indent otherwise",
}
"""What most often is behind the parser's words."""


def _yaml_problem(error: yaml.YAMLError, name: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"{name}:{mark.line + 1}" if mark else name
    problem = str(getattr(error, "problem", None) or error)
    hint = next((f" ({hint})" for words, hint in _YAML_HINTS.items() if words in problem), "")
    return Problem(where, "", f"is not YAML: {problem}{hint}")


# -- the environment -------------------------------------------------------------------------------------


def _override(document: dict[str, Any], environment: Mapping[str, str], places: Places) -> None:
    """Lay `GEOMQ_SECTION__KEY` variables, whose values are YAML, over the document."""
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable.startswith(_NOT_KEYS):
            continue
        try:
            value = yaml.safe_load(environment[variable])
        except yaml.YAMLError as error:
            raise ConfigError([_yaml_problem(error, variable)]) from None
        path: KeyPath = tuple(
            int(part) if part.isdigit() else part.lower() for part in variable[len(PREFIX) :].split("__")
        )
        try:
            _set(document, path, value)
        except LookupError:
            raise ConfigError([Problem(variable, dotted(path), "does not exist")]) from None
        for length in range(1, len(path) + 1):
            places.setdefault(path[:length], variable)
        places[path] = variable


def _set(document: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Put a value in its place; LookupError where a list has no such entry."""
    holder: Any = document
    for part, following in itertools.pairwise(path):
        if isinstance(following, str) and isinstance(holder, dict) and holder.get(part) is None:
            holder[part] = {}
        holder = holder[part]
        if isinstance(holder, list) != isinstance(following, int) or not isinstance(holder, (dict, list)):
            raise LookupError
    holder[path[-1]] = value


# -- mistakes --------------------------------------------------------------------------------------------


def dotted(path: KeyPath) -> str:
    """`mesh.listen[0]`: a key as people write it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _where(path: KeyPath, places: Places, name: str) -> str:
    """Where a key stands, or what is nearest above it."""
    return next(
        (places[path[:length]] for length in range(len(path), 0, -1) if path[:length] in places), name
    )


def _problems(error: dict[str, Any], places: Places, name: str) -> list[Problem]:
    mistakes = error.get("ctx", {}).get("error")
    if isinstance(mistakes, Mistakes):
        return [Problem(_where(key, places, name), dotted(key), text) for key, text in mistakes.mistakes]
    return [_problem(error, places, name)]


def _problem(
    error: dict[str, Any],
    places: Places,
    name: str,
    above: KeyPath = (),
    root: type[BaseModel] = NodeConfig,
) -> Problem:
    """A mistake that pydantic found in a model, which stands at ``above`` in the file."""
    kind = error["type"]
    path: KeyPath = above + tuple(part for part in error["loc"] if not _is_note(part))
    if kind == "union_tag_invalid":
        path = (*path, "action")
    where = _where(path, places, name)
    if kind == "extra_forbidden":
        return Problem(where, dotted(path), _unknown(str(path[-1]), _allowed_keys(error["loc"][:-1], root)))
    if kind == "missing":
        return Problem(where, dotted(path), "is required")
    if kind == "union_tag_invalid":
        return Problem(where, dotted(path), _unknown_action(error["input"].get("action")))
    if kind == "value_error" and (path[-1:] == ("key",) or isinstance(error["input"], (dict, BaseModel))):
        return Problem(where, dotted(path), str(error["ctx"]["error"]))
    return Problem(where, dotted(path), f"{_shown(error['input'])}: {_explanation(error)}")


def _is_note(part: Any) -> bool:
    """Whether it is pydantic's, not the file's: `[key]`, `[hash]`."""
    return isinstance(part, str) and part.startswith("[")


def _unknown_action(found: Any) -> str:
    allowed = f"allowed: {', '.join(rules.ACTIONS)}"
    if found is None:
        return f"is required; {allowed}"
    close = difflib.get_close_matches(str(found), rules.ACTIONS, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{_shown(found)}: {hint}{allowed}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _explanation(error: dict[str, Any]) -> str:
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        return f"allowed: {context['expected'].replace(' or ', ', ')}"
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] in ("model_type", "dict_type", "union_tag_not_found"):
        return "keys and values are expected here"
    if error["type"] == "too_short":
        return f"allowed: at least {context['min_length']} of them"
    if error["type"] == "too_long":
        return f"allowed: at most {context['max_length']} of them"
    text = str(error["msg"]).removeprefix("Input should be ")
    return f"allowed: {text.removeprefix('a valid ')}"


def _unknown(key: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(key, allowed, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"is not a key; {hint}allowed: {', '.join(allowed)}"


def _allowed_keys(path: KeyPath, root: type[BaseModel]) -> list[str]:
    """The keys of the section at a path of pydantic's."""
    section = root
    for part in path:
        if isinstance(part, int) or part == "[key]":
            continue
        if _is_note(part):
            section = rules.MODELS[part]
            continue
        fields = (field for name, field in section.model_fields.items() if part in (name, field.alias))
        section = next(_models(next(fields).annotation))
    return [field.alias or name for name, field in section.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)
