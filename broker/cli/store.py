"""`geomq store`: what a node keeps on disk."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from broker import salvage
from broker.cli.common import fail, load_config
from broker.datafolder import OWNER_ONLY, DataFolder, FolderError
from broker.store.database import StoreError
from broker.store.transfer import (
    TransferError,
    back_up,
    bring_in,
    counts,
    exported,
    problems,
    reading,
)
from edge_mesh import outbox_store
from plugins.store import history, rule_state

app = typer.Typer(help="What a node keeps on disk.", no_args_is_help=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The node's YAML file. Default: $GEOMQ_CONFIG, else safe defaults."),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="The node's folder. Default: the configuration's `node.data`.")
]
DATABASE = "broker.db"
_OTHERS = {
    "outbox.db": outbox_store.prepare,
    "history.db": history.prepare,
    "rules.db": rule_state.prepare,
}
_TOLD = {
    "session": "sessions",
    "subscription": "subscriptions",
    "delivery": "queued messages",
    "message": "messages stored for them",
    "retained": "retained messages",
    "will": "wills",
}


def _folder(config: Path | None, data: Path | None) -> Path:
    return data if data is not None else load_config(config).node.data


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """End the command with what went wrong."""
    try:
        yield
    except (TransferError, StoreError, FolderError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")


def _summary(rows: dict[str, int]) -> str:
    return ", ".join(f"{rows[table]} {name}" for table, name in _TOLD.items())


@app.command()
def check(config: ConfigOption = None, data: DataOption = None) -> None:
    """Tell what the databases hold, and whether they are sound: exit code 1 where one is not. The node may run."""
    folder = _folder(config, data)
    # The history's commits are not waited for: its log may have a torn end of any length.
    is_synced = {DATABASE: data is not None or load_config(config).synchronous == "full", "outbox.db": True}
    found: dict[Path, list[str]] = {}
    damaged: list[str] = []
    summary = ""
    for name in (DATABASE, *_OTHERS):
        if lines := salvage.file_problems(folder / name, is_synced.get(name, False)):
            found[folder / name] = lines
    with _told():
        if folder / DATABASE not in found:
            with reading(folder / DATABASE) as connection:
                found[folder / DATABASE] = problems(connection)
                summary = "" if found[folder / DATABASE] else _summary(counts(connection))
        for name, prepare in _OTHERS.items():
            path = folder / name
            if path not in found and path.is_file():
                found[path] = salvage.problems_of(path, prepare)
    for path, lines in found.items():
        if lines:
            damaged += [
                f"{path} is damaged; its node sets it aside and saves what it can when it starts",
                *lines,
            ]
        else:
            print(f"{path} is sound" + (f": {summary}" if path.name == DATABASE else ""))
    if damaged:
        fail("\n".join(damaged))


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A folder; it is made where it is not there.")],
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Copy the databases into a folder, each as it is at one moment. The node may be running."""
    folder = _folder(config, data)
    with _told():
        target.mkdir(OWNER_ONLY, parents=True, exist_ok=True)
        back_up(folder / DATABASE, target / DATABASE)
        copied = [DATABASE]
        for name in _OTHERS:
            if (folder / name).is_file():
                back_up(folder / name, target / name)
                copied.append(name)
    print(f"{target}: {', '.join(copied)}")


@app.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="Default: standard output.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Write out all that is in the database as JSON lines. The node may be running."""
    with _told(), reading(_folder(config, data) / DATABASE) as connection, _writing(file) as out:
        for line in exported(connection):
            out.write(line + "\n")


@contextlib.contextmanager
def _writing(file: Path | None) -> Iterator[IO[str]]:
    if file is None:
        yield sys.stdout
        return
    with file.open("x", encoding="utf-8") as out:
        try:
            yield out
            out.flush()
        except OSError as error:
            file.unlink()
            fail(f"{file}: {error.strerror}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `geomq store export` wrote.")],
    config: ConfigOption = None,
    data: DataOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Give up what the database holds.")] = False,
) -> None:
    """Put an export into the database of a node that is not running: all of it, or nothing."""
    folder = _folder(config, data)
    with _told(), file.open(encoding="utf-8") as lines:
        lock = DataFolder(folder)
        try:
            rows = bring_in(lines, folder / DATABASE, replace)
        finally:
            lock.close()
    print(f"{folder / DATABASE}: {_summary(rows)}")
