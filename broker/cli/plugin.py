"""`geomq plugin`: making rules in code, and trying them before a node gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from broker.cli.common import fail

app = typer.Typer(help="Rules in WebAssembly: make, check, try and measure them.", no_args_is_help=True)


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
    from plugins.host.engine import PluginError, wat2wasm

    try:
        code = wat2wasm(source.read_text(encoding="utf-8"))
        (output or source.with_suffix(".wasm")).write_bytes(code)
    except PluginError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{source}: is not UTF-8")
