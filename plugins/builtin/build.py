"""Building the modules that GeoMQ brings along: `python -m plugins.builtin.build [--check]`.

The compiler is that of the `ziglang` package, of a pinned version, so that everybody gets the same bytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULE = HERE / "rules.wasm"
FLAGS = (
    "-target",
    "wasm32-freestanding",
    "-mcpu=mvp+bulk_memory",
    "-std=c11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-nostdlib",
    "-Wl,--no-entry",
    "-Wl,--export-memory",
    "-Wl,--strip-all",
)


def compile_module(sources: list[Path], target: Path) -> None:
    """Compile C to a module; SystemExit with the compiler's words where that fails."""
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *map(str, sources), "-o", str(target)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"the module cannot be built:\n{result.stderr}")


def build(target: Path = MODULE) -> None:
    """Build the built-in rules."""
    compile_module(sorted(HERE.glob("*.c")), target)
    target.chmod(0o644)


def is_current() -> bool:
    """Whether the module that is shipped is what its sources make."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "rules.wasm"
        build(fresh)
        return MODULE.exists() and fresh.read_bytes() == MODULE.read_bytes()


def main() -> None:
    """Build, or check what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="only tell whether the module matches its sources"
    )
    if not parser.parse_args().check:
        build()
        print(f"{MODULE.name}: {MODULE.stat().st_size} bytes")
    elif not is_current():
        raise SystemExit("rules.wasm is not what its sources make: run `make plugins`")


if __name__ == "__main__":
    main()
