"""A new plugin's folder: the library of a language, an example to start from, how it is built and tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SDK = Path(__file__).resolve().parents[1] / "sdk"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class ScaffoldError(ValueError):
    """Why there is no new folder."""


class Language(NamedTuple):
    """A language for plugins: what its folder in the SDK holds."""

    title: str
    suffix: str
    source: str
    """Where the plugin stands in the new folder."""
    library: tuple[str, ...]
    """Files that are copied as they are."""
    examples: tuple[str, ...] = ("filter", "mask", "aggregate")
    note: str = ""
    """What its README says besides."""


LANGUAGES = {
    "c": Language("C", "c", "plugin.c", ("geomq_plugin.h", "geomq_json.h")),
    "rust": Language(
        "Rust",
        "rs",
        "src/lib.rs",
        (
            "Cargo.toml",
            "geomq-plugin/Cargo.toml",
            *(f"geomq-plugin/src/{name}.rs" for name in ("lib", "batch", "exports", "json", "outcome")),
        ),
        note="""

`make` takes the first `rustc` on the path. Where that is rustup's, without the target wasm32-unknown-unknown, and
Debian's has it: `make RUSTC=/usr/bin/rustc`. Or have rustup bring it: `rustup target add wasm32-unknown-unknown`.""",
    ),
    "assemblyscript": Language(
        "AssemblyScript",
        "ts",
        "plugin.ts",
        ("geomq.ts", "json.ts", "package.json"),
    ),
    "zig": Language("Zig", "zig", "plugin.zig", ("geomq.zig", "json.zig")),
    "wat": Language("WebAssembly's text format", "wat", "plugin.wat", (), examples=("empty",)),
}
PURPOSES = {
    "filter": "messages without a number, or with one below a bound, are dropped.",
    "mask": "a name is replaced by a pseudonym, which the node remembers.",
    "aggregate": "numbers are collected over a window, summaries are published.",
    "empty": "messages with an empty payload are dropped.",
}


def create(name: str, language: str, example: str | None, folder: Path) -> list[Path]:
    """Write a new plugin's folder; the files in it. ScaffoldError says why that cannot be.

    ``example`` is what it begins as: one of the language's, None for its first.
    """
    if not _NAME.fullmatch(name):
        raise ScaffoldError(
            f"{name!r} cannot be a plugin's name: letters, digits, - and _, the first one a letter"
        )
    chosen = LANGUAGES[language]
    example = example or chosen.examples[0]
    if example not in chosen.examples:
        raise ScaffoldError(f"there is no example {example!r} in {language}: {', '.join(chosen.examples)}")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise ScaffoldError(f"{folder} is not empty")
        written = []
        for target, text in _files(name, language, chosen, example):
            path = folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise ScaffoldError(f"{error.filename}: {error.strerror}") from None
    return written


def _files(name: str, language: str, chosen: Language, example: str) -> Iterator[tuple[str, str]]:
    home = SDK / language
    words = {
        "NAME": name,
        "LANGUAGE": chosen.title,
        "PURPOSE": PURPOSES[example],
        "SOURCE": chosen.source,
        "NOTE": chosen.note,
    }
    yield chosen.source, (home / f"{example}.{chosen.suffix}").read_text(encoding="utf-8")
    for path in chosen.library:
        yield path, _filled(home / path, words)
    yield "Makefile", _filled(home / "Makefile", words)
    yield "README.md", _filled(SDK / "README.template.md", words)
    for path in ("rules.yaml", "sample.jsonl"):
        yield path, _filled(SDK / "examples" / example / path, words)


def _filled(path: Path, words: dict[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text
