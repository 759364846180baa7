"""The compilers of the SDK's languages, and the examples built by them, each by its own Makefile.

What was built is kept in `.geomq/examples` under a hash of its sources and of the compiler, for building all of
them takes a while.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from plugins.tools.scaffold import LANGUAGES, create

ROOT = Path(__file__).resolve().parents[3]
BUILT = ROOT / ".geomq" / "examples"
ASC = Path(__file__).parent / "node_modules" / ".bin" / "asc"
EVERY = [(language, example) for language, chosen in LANGUAGES.items() for example in chosen.examples]
BY_LIBRARY = [pair for pair in EVERY if pair[0] != "wat"]
_TARGET = "wasm32-unknown-unknown"


def built(language: str, example: str) -> Path:
    """The module of an example, or of `everything`; skips the test where its compiler is missing."""
    variables = _compiler(language)
    with tempfile.TemporaryDirectory() as folder:
        files = _project(language, example, Path(folder) / "plugin")
        digest = hashlib.sha256(repr(variables).encode())
        for path in sorted(files):
            digest.update(path.read_bytes())
        module = BUILT / f"{language}-{example}-{digest.hexdigest()[:16]}.wasm"
        if not module.exists():
            _make(Path(folder) / "plugin", variables)
            BUILT.mkdir(parents=True, exist_ok=True)
            # Whole or not at all: others may look for it at this moment.
            fresh = module.with_suffix(f".{os.getpid()}")
            shutil.move(Path(folder) / "plugin" / "plugin.wasm", fresh)
            fresh.replace(module)
    return module


def _project(language: str, example: str, folder: Path) -> list[Path]:
    """The files of a new plugin; its source may be one of the tests' own."""
    chosen = LANGUAGES[language]
    own = Path(__file__).parent / example / f"{example}.{chosen.suffix}"
    files = create("plugin", language, None if own.exists() else example, folder)
    if own.exists():
        shutil.copy(own, folder / chosen.source)
    return files


def _make(folder: Path, variables: tuple[str, ...]) -> None:
    result = subprocess.run(
        ["make", "--silent", "-C", folder, "plugin.wasm", *variables],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=_environment(),
    )
    assert result.returncode == 0, result.stdout + result.stderr


@cache
def _compiler(language: str) -> tuple[str, ...]:
    """What `make` is told about the compiler, its version included."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    if language in ("c", "zig"):
        return (
            f"ZIG={sys.executable} -m ziglang",
            f"VERSION={_said(sys.executable, '-m', 'ziglang', 'version')}",
        )
    if language == "rust":
        return _rust()
    if language == "assemblyscript":
        if not ASC.exists():
            pytest.skip("AssemblyScript is not installed: make .venv/.sdk")
        return (f"ASC={ASC}", f"VERSION={_said(str(ASC), '--version')}")
    return (f"GEOMQ={sys.executable} -m broker",)


def _rust() -> tuple[str, ...]:
    """The first Rust that has the library for wasm: another one may stand before it on the path."""
    for compiler in ("rustc", "/usr/bin/rustc"):
        if shutil.which(compiler):
            library = subprocess.run(
                [compiler, "--print", "target-libdir", "--target", _TARGET],
                capture_output=True,
                text=True,
                check=False,
            ).stdout.strip()
            if library and Path(library).is_dir():
                return (f"RUSTC={compiler}", f"VERSION={_said(compiler, '--version')}")
    pytest.skip(f"there is no Rust with its library for {_TARGET}: Debian's libstd-rust-dev-wasm32")


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    """With the environment's programs first: Node.js is one, where the machine has none."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
