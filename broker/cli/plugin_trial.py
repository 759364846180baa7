"""`geomq plugin test`: what rules make of messages, told to people or, as JSON, to scripts."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from broker.cli.common import fail
from broker.cli.recording import Recorded
from broker.cli.rule_files import (
    STAGES,
    EntryOption,
    FileArgument,
    ModuleConfigOption,
    PayloadFileOption,
    PayloadOption,
    RecordedOption,
    Rules,
    StageOption,
    TopicOption,
    messages_of,
    rules_of,
    to_fields,
)

if TYPE_CHECKING:
    from plugins.host.frame import Fields
    from plugins.tools.course import Step
    from plugins.tools.trial import Trial

_STYLES = {"pass": "green", "replace": "yellow", "drop": "red", "fail": "bold red", "tick": "cyan"}
_MARKS = {"-": "red", "+": "green"}
_STAGE_NAMES = {number: name for name, number in STAGES.items()}


def try_rules(
    file: FileArgument,
    topic: TopicOption = None,
    payload: PayloadOption = None,
    payload_file: PayloadFileOption = None,
    recorded: RecordedOption = None,
    config: ModuleConfigOption = None,
    stage: StageOption = None,
    entry: EntryOption = None,
    client: Annotated[str, typer.Option(help="The publisher's client identifier.")] = "",
    user: Annotated[str, typer.Option(help="The publisher's user name.")] = "",
    qos: Annotated[int, typer.Option(help="With --topic: the quality of service.", min=0, max=2)] = 0,
    retain: Annotated[bool, typer.Option("--retain", help="With --topic: a retained message.")] = False,
    node: Annotated[
        str | None, typer.Option(help="The node's name that rules see. Default: the configuration's.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Its region.")] = None,
    later: Annotated[
        float, typer.Option(help="Seconds that pass after the last message: windows close.", min=0)
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show what rules make of messages: verdict, what changed, effects, fuel and time. Exit code 1 where one fails."""
    messages = messages_of(topic, payload, payload_file, recorded)
    if not messages:
        fail("nothing to try: --topic with --payload or --payload-file, or --file with recorded messages")
    if topic is not None:
        messages = [messages[0]._replace(qos=qos, retain=retain)]
    messages = [m._replace(client=m.client or client, user=m.user or user) for m in messages]
    if file == "rules" and config is None:
        fail("--config is missing: without steps the built-in module lets everything pass")
    rules = rules_of(file, config, stage, entry)
    trials = _trials(rules._replace(node=node or rules.node, region=region or rules.region))
    verdicts: Counter[str] = Counter()
    tried: set[int] = set()
    show = _print_json if as_json else _Page().show
    for number, step in _steps(trials, messages, later):
        verdicts[step.attempt.verdict] += 1
        if step.attempt.before is not None and not step.emitted:
            tried.add(number)
        show(number, messages[number - 1], step)
    if not as_json:
        _summary(len(messages), len(messages) - len(tried), verdicts)
    raise SystemExit(1 if verdicts["fail"] else 0)


def _trials(rules: Rules) -> list[Trial]:
    from plugins.host.frame import Place
    from plugins.host.reasons import PluginError
    from plugins.tools.trial import Trial

    where = Place(rules.node.encode(), rules.region.encode())
    trials, mistakes = [], []
    for found in rules.entries:
        try:
            trials.append(Trial(found, where))
        except PluginError as error:
            mistakes.append(rules.mistake(found, error))
    if mistakes:
        print(*mistakes, sep="\n", file=sys.stderr)
        raise SystemExit(1)
    return trials


def _steps(trials: list[Trial], messages: list[Recorded], later: float) -> Iterator[tuple[int, Step]]:
    """(which message, what an entry made of it), as a node would run them."""
    from plugins.tools.course import Course

    course = Course(trials)
    now = next((message.time for message in messages if message.time), time.time())
    for number, message in enumerate(messages, 1):
        now = max(now, message.time or now)
        yield from ((number, step) for step in course.pass_time(now))
        yield from ((number, step) for step in course.take(to_fields(message), now))
    if later:
        yield from ((len(messages), step) for step in course.pass_time(now + later))


# -- for people ------------------------------------------------------------------------------------------


class _Page:
    """Prints attempts, the message above those that are about the same."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._number = 0

    def show(self, number: int, message: Recorded, step: Step) -> None:
        from plugins.tools.difference import difference, shown, shown_payload
        from plugins.tools.effects import all_in_words

        attempt = step.attempt
        if step.emitted:
            pass
        elif attempt.before is None:
            self._line("time passes", "bold")
            self._number = 0
        elif number != self._number:
            self._number = number
            marks = f"QoS {message.qos}{', retained' if message.retain else ''}"
            self._line(f"{number}  {shown(message.topic.encode())}  {marks}", "bold")
            self._line(f"   {shown_payload(message.payload)}", "dim")
        self._verdict(step)
        if attempt.before is not None and attempt.after is not None:
            for change in difference(attempt.before, attempt.after):
                self._line(f"     {change.mark} {change.text}", _MARKS[change.mark])
        for line in all_in_words(attempt.effects):
            self._line(f"     {line}", "cyan")

    def _verdict(self, step: Step) -> None:
        from plugins.tools.difference import shown

        attempt = step.attempt
        what = f" of {shown(attempt.before.topic)}" if step.emitted and attempt.before is not None else ""
        text = Text(f"   {_STAGE_NAMES[attempt.entry.stage]} {attempt.entry.name}{what}: ")
        text.append(attempt.verdict, style=_STYLES[attempt.verdict])
        if attempt.reason:
            fate = "the message is dropped" if attempt.after is None else "the message passes unchanged"
            text.append(f", {attempt.reason}{'' if attempt.before is None else f'; {fate}'}")
        if attempt.entry.module is not None:
            text.append(f"  {attempt.fuel:,} fuel, {attempt.microseconds:,.0f} us", style="dim")
        self._console.print(text)

    def _line(self, text: str, style: str) -> None:
        self._console.print(Text(text, style=style))


def _summary(count: int, untouched: int, verdicts: Counter[str]) -> None:
    told = {"pass": "passed", "replace": "changed", "drop": "dropped", "fail": "failed"}
    parts = ", ".join(f"{verdicts[verdict]} {word}" for verdict, word in told.items())
    parts += f", {untouched} that no entry is for" if untouched else ""
    print(f"{count} {'message' if count == 1 else 'messages'}: {parts}", file=sys.stderr)


# -- for scripts -----------------------------------------------------------------------------------------


def _print_json(number: int, message: Recorded, step: Step) -> None:
    from plugins.tools.effects import as_json

    attempt = step.attempt
    print(
        json.dumps(
            {
                "message": number,
                "emitted": step.emitted,
                "entry": attempt.entry.name,
                "stage": _STAGE_NAMES[attempt.entry.stage],
                "verdict": attempt.verdict,
                "reason": attempt.reason,
                "before": _fields(attempt.before),
                "after": _fields(attempt.after),
                "effects": [as_json(effect) for effect in attempt.effects],
                "fuel": attempt.fuel,
                "microseconds": round(attempt.microseconds, 1),
            },
            ensure_ascii=False,
        )
    )


def _fields(fields: Fields | None) -> dict[str, Any] | None:
    if fields is None:
        return None
    from broker.cli.recording import Recorded, to_line
    from broker.protocol.constants import PUBLISH
    from broker.protocol.properties import read_bare

    properties = read_bare(fields.properties, PUBLISH)
    line: dict[str, Any] = json.loads(
        to_line(Recorded(fields.topic.decode(), fields.payload, fields.qos, fields.retain, properties))
    )
    return line
