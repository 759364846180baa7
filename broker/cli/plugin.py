"""`geomq plugin`: making rules in code, and trying them before a node gets them."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli.common import fail
from broker.cli.plugin_trial import try_rules
from broker.cli.rule_files import (
    EntryOption,
    FileArgument,
    ModuleConfigOption,
    PayloadFileOption,
    PayloadOption,
    RecordedOption,
    TopicOption,
    messages_of,
    one_of,
    to_fields,
)

if TYPE_CHECKING:
    from plugins.host.entry import Entry
    from plugins.tools.conformance import Check
    from plugins.tools.measure import Measured

JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]

app = typer.Typer(help="Rules in WebAssembly: make, check, try and measure them.", no_args_is_help=True)
app.command("test")(try_rules)

_WIDTH = 160
"""Characters of a line where the output is no terminal: enough that nothing is cut."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The plugin's name.")],
    lang: Annotated[
        Literal["c", "rust", "assemblyscript", "zig", "wat"], typer.Option(help="The language.")
    ] = "c",
    example: Annotated[
        Literal["filter", "mask", "aggregate", "empty"] | None,
        typer.Option(help="What it begins as. Default: filter, for wat: empty."),
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where it is written. Default: ./NAME.")] = None,
) -> None:
    """Write a new plugin's folder: source, library, Makefile, an entry for the configuration, sample messages."""
    from plugins.tools.scaffold import ScaffoldError, create

    folder = folder or Path(name)
    try:
        written = create(name, lang, example, folder)
    except ScaffoldError as error:
        fail(str(error))
    for path in written:
        print(path)
    print(f"See {folder / 'README.md'} for how it is built and tried.")


@app.command()
def assemble(
    source: Annotated[Path, typer.Argument(help="A module in WebAssembly's text format (.wat).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: beside it, as .wasm.")
    ] = None,
) -> None:
    """Translate WebAssembly's text format into a module."""
    from plugins.host.engine import wat2wasm
    from plugins.host.reasons import PluginError

    try:
        code = wat2wasm(source.read_text(encoding="utf-8"))
        (output or source.with_suffix(".wasm")).write_bytes(code)
    except PluginError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{source}: is not UTF-8")


@app.command()
def check(
    file: FileArgument,
    config: ModuleConfigOption = None,
    entry: EntryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether a module keeps to the interface, check by check. Exit code 1 where it does not."""
    from plugins.host.reasons import PluginError
    from plugins.tools.conformance import conformance

    found, rules = one_of(file, config, entry)
    show = None if as_json else _console()
    checks: list[Check] = []
    try:
        for one in conformance(*_code_and_config(found), found.limits):
            checks.append(one)
            if show is not None:
                _show_check(show, one)
    except PluginError as error:
        rules.refuse(found, error)
    failed = sum(bool(one.problem) for one in checks)
    passed = len(checks) - failed
    if show is not None:
        show.print(f"{passed} passed, {failed} failed")
    else:
        each = [{"passed": not one.problem, **one._asdict()} for one in checks]
        report = {"file": str(found.path), "passed": passed, "failed": failed, "checks": each}
        print(json.dumps(report, indent=2))
    raise SystemExit(1 if failed else 0)


def _show_check(console: Console, one: Check) -> None:
    mark, style = ("failed", "bold red") if one.problem else ("passed", "green")
    more = one.problem or one.note
    console.print(Text.assemble((mark, style), f"  {one.name}", f": {more}" if more else ""))


@app.command()
def inspect(
    file: FileArgument,
    config: ModuleConfigOption = None,
    entry: EntryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a module consists of and what it may do, without trusting it: nothing of it runs but its start."""
    from plugins.host.loading import read_module
    from plugins.host.reasons import PluginError
    from plugins.tools.inspection import inspect as look

    found, rules = one_of(file, config, entry)
    try:
        assert found.path is not None
        report = look(read_module(found.path), found.limits)
    except PluginError as error:
        rules.refuse(found, error)
    if as_json:
        print(json.dumps({"file": str(found.path), **report}, indent=2))
        return
    console = _console()
    for name, value in {"file": str(found.path), **report}.items():
        lines = value if isinstance(value, list) else [value]
        for number, line in enumerate(lines or ["none"]):
            console.print(
                Text.assemble((f"{'' if number else name.replace('_', ' '):<12}", "bold"), str(line))
            )


@app.command()
def bench(
    file: FileArgument,
    topic: TopicOption = None,
    payload: PayloadOption = None,
    payload_file: PayloadFileOption = None,
    recorded: RecordedOption = None,
    config: ModuleConfigOption = None,
    entry: EntryOption = None,
    seconds: Annotated[float, typer.Option(help="For each size of batch.", min=0.01)] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Measure a rule on one core, host included, with batches of 1, 64 and 512 messages.

    Without messages of your own it is given telemetry of about 200 bytes. Exit code 1 where the rule fails.
    """
    from plugins.host.loading import Plan
    from plugins.host.reasons import PluginError
    from plugins.tools.measure import TELEMETRY, MeasureError, measure

    found, rules = one_of(file, config, entry)
    messages = [to_fields(message) for message in messages_of(topic, payload, payload_file, recorded)]
    try:
        Plan(found, None).make(lambda key: None).close()
    except PluginError as error:
        rules.refuse(found, error)
    # Why it fails is told at the end, once.
    logging.getLogger("geomq.plugins").addFilter(_is_no_failure)
    try:
        rows = list(measure(found, messages or TELEMETRY, seconds))
    except MeasureError as error:
        fail(f"rule {found.name} {error}")
    finally:
        logging.getLogger("geomq.plugins").removeFilter(_is_no_failure)
    if as_json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
    else:
        _print_rows(rows)
    if rows[-1].rejected:
        print(f"rule {found.name} rejects {rows[-1].rejected} of a batch of {rows[-1].size}", file=sys.stderr)


def _is_no_failure(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def _print_rows(rows: list[Measured]) -> None:
    table = Table(box=box.SIMPLE)
    for title in ("batch", "messages/s", "us a message", "fuel a message", "of its fuel"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            f"{row.size}",
            f"{row.per_second:,.0f}",
            f"{row.microseconds:,.2f}",
            f"{row.fuel:,.0f}",
            f"{row.share:.2%}",
        )
    _console().print(table)


def _code_and_config(found: Entry) -> tuple[bytes, bytes]:
    from plugins.host.keys import with_keys
    from plugins.host.loading import read_module

    assert found.path is not None
    return read_module(found.path), json.dumps(with_keys(found.config)).encode()


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
