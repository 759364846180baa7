"""What the commands about plugins share: the rules in a file, and the messages to try them on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer
import yaml

from broker.cli.common import fail, tell_doubts
from broker.cli.config_files import in_words
from broker.cli.recording import Recorded, RecordingError, from_lines
from broker.config import ConfigError, Reading, dotted, doubts_of_rules, read_rules
from broker.protocol.errors import ProtocolError
from broker.protocol.topics import decode_topic

if TYPE_CHECKING:
    from plugins.host.entry import Entry
    from plugins.host.frame import Fields
    from plugins.host.reasons import PluginError

FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A .wasm module; a YAML file with entries or a node's configuration; or `rules`, the built-in module.",
    ),
]
ModuleConfigOption = Annotated[
    str | None,
    typer.Option("--config", "-c", help="A module's configuration: JSON, or a file of JSON or YAML."),
]
EntryOption = Annotated[str | None, typer.Option("--entry", help="Only the entry of this name.")]
StageOption = Annotated[
    str | None,
    typer.Option(
        help="ingress, egress or store. Default: the stages that a configuration has; ingress for entries alone."
    ),
]
TopicOption = Annotated[str | None, typer.Option(help="The topic of a message.")]
PayloadOption = Annotated[str | None, typer.Option(help="Its payload.")]
PayloadFileOption = Annotated[Path | None, typer.Option(help="A file that is its payload.")]
RecordedOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="Recorded messages, as `geomq record` writes them.")
]

STAGES = {"ingress": 1, "egress": 2, "store": 4}
"""As in :class:`plugins.host.entry.Entry`."""
_STAGE_NAMES = {number: name for name, number in STAGES.items()}


class Rules(NamedTuple):
    """Entries in the order in which they run, and the node that they see."""

    entries: list[Entry]
    node: str = "node"
    region: str = "region"
    reading: Reading | None = None
    """The file that they stand in; None for a module on its own."""

    def mistake(self, entry: Entry, error: PluginError) -> str:
        """Why an entry does not start, with its file's line if it has one."""
        if self.reading is None or self.reading.config is None:
            is_named = error.key[-1:] == ("key_file",)
            return f"geomq: {error if is_named else in_words(error, entry)}"
        stage = _STAGE_NAMES[entry.stage]
        names = [rule.name for rule in getattr(self.reading.config.plugins, stage)]
        key = ("plugins", stage, names.index(entry.name), *error.key)
        return str(self.reading.problem(key, in_words(error, entry)))

    def refuse(self, entry: Entry, error: PluginError) -> NoReturn:
        """End the command: an entry does not start."""
        print(self.mistake(entry, error), file=sys.stderr)
        raise SystemExit(1)


def rules_of(file: str, config: str | None, stage: str | None, entry: str | None = None) -> Rules:
    """The rules to try; ends the command where there is none.

    A module on its own becomes an entry for all topics (it names none).
    """
    if stage is not None and stage not in STAGES:
        fail(f"--stage {stage!r}: allowed: {', '.join(STAGES)}")
    if file == "rules" or file.endswith(".wasm") or _is_module(Path(file)):
        return Rules([_module(file, config, stage or "ingress")])
    if file.endswith(".wat"):
        fail(f"{file}: `geomq plugin assemble` makes a module of it first")
    if config is not None:
        fail("--config is for a module; entries have their own")
    found = _configured(Path(file), stage)
    known = f"; it has {', '.join(one.name for one in found.entries)}" if found.entries else ""
    if entry is not None:
        found = found._replace(entries=[one for one in found.entries if one.name == entry])
    if not found.entries:
        named = f" {entry!r}" if entry else ""
        fail(f"{file} has no entry{named}" + (f" for {stage}" if stage else "") + known)
    return found


def one_of(file: str, config: str | None, entry: str | None) -> tuple[Entry, Rules]:
    """The one entry to look at, the first that has a module; ends the command where there is none."""
    rules = rules_of(file, config, None, entry)
    found = [one for one in rules.entries if one.module is not None]
    if not found:
        fail(f"{file} has no entry with a module")
    return found[0], rules


def _is_module(file: Path) -> bool:
    """Whether it is one, whatever its name says."""
    try:
        with file.open("rb") as opened:
            return opened.read(4) == b"\0asm"
    except OSError:
        return False


def _module(file: str, config: str | None, stage: str) -> Entry:
    from plugins.host.entry import Entry

    module = file if file == "rules" else str(Path(file).resolve())
    found = _module_config(config)
    for key, text in doubts_of_rules(found) if module == "rules" else ():
        print(f"--config: {dotted(key)}: {text}", file=sys.stderr)
    return Entry(Path(file).stem, STAGES[stage], module, (), found)


def _module_config(config: str | None) -> dict[str, Any]:
    if config is None:
        return {}
    is_text = config.lstrip().startswith(("{", "["))
    what = "" if is_text else f"{config}: "
    try:
        found = json.loads(config) if is_text else yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"--config: {what}{error.strerror or error}")
    except UnicodeDecodeError:
        fail(f"--config: {what}it is not UTF-8")
    except (ValueError, yaml.YAMLError) as error:
        fail(f"--config: {what}it is not {'JSON' if is_text else 'JSON or YAML'}: {_in_one_line(error)}")
    if not isinstance(found, dict):
        fail(f"--config: {what}an object is expected")
    return found


def _in_one_line(error: Exception) -> str:
    """What is wrong with a text, and where."""
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or error}{where}"


def _configured(file: Path, stage: str | None) -> Rules:
    from broker.parts import rule_entries

    try:
        reading = read_rules(file, stage or "ingress")
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    tell_doubts(reading)
    settings = reading.config
    assert settings is not None
    entries = [one for one in rule_entries(settings) if stage is None or one.stage == STAGES[stage]]
    return Rules(entries, settings.node.name, settings.node.region, reading)


def messages_of(
    topic: str | None, payload: str | None, payload_file: Path | None, file: Path | None
) -> list[Recorded]:
    """The messages that the options tell; none where they tell none. Ends the command where they contradict."""
    if file is not None:
        if (topic, payload, payload_file) != (None, None, None):
            fail("--file has its own topics and payloads")
        return _recorded(file)
    if topic is None:
        if payload is not None or payload_file is not None:
            fail("--topic is missing")
        return []
    try:
        decode_topic(topic.encode())
        if payload_file is None:
            return [Recorded(topic, (payload or "").encode())]
        if payload is not None:
            fail("--payload or --payload-file, not both")
        return [Recorded(topic, payload_file.read_bytes())]
    except ProtocolError as error:
        fail(f"--topic {topic!r}: {error.detail}")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")


def _recorded(file: Path) -> list[Recorded]:
    try:
        with file.open(encoding="utf-8") as lines:
            found = list(from_lines(lines, str(file)))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{file}: it is not UTF-8")
    except RecordingError as error:
        fail(str(error))
    if not found:
        fail(f"{file} has no messages")
    return found


def to_fields(message: Recorded) -> Fields:
    """A message as plugins get it."""
    from plugins.host.frame import Fields

    return Fields(
        message.topic.encode(),
        message.payload,
        message.wire_properties,
        message.client.encode(),
        message.qos,
        message.retain,
        message.user.encode(),
    )
