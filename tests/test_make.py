"""What the Makefile makes of its tools' answers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"

EDITABLE = "geomq  distribution marked as editable"
UNKNOWN = "aiohttp  Dependency not found on PyPI and could not be audited: aiohttp (3.14.5)"


@pytest.mark.parametrize(
    ("table", "code", "ends"),
    [
        (EDITABLE, 0, 0),
        (f"{EDITABLE}\n{UNKNOWN}", 0, 2),
        ("aiohttp 3.0.0 CVE-2024-1", 1, 2),
        (None, 1, 2),
    ],
)
def test_audit_succeeds_only_where_all_was_audited(
    tmp_path: Path, table: str | None, code: int, ends: int
) -> None:
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.installed").touch()
    (tmp_path / ".venv/audit.txt").write_text("of an earlier run")
    # In the place of Python: pip does nothing, pip_audit tells what it is told to.
    tells = f"printf '%s\\n' '{table}' > .venv/audit.txt" if table is not None else ":"
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\n[ "$2" = pip_audit ] || exit 0\n{tells}\nexit {code}\n')
    tool.chmod(0o755)
    done = subprocess.run(
        ["make", "audit", "PY=./tool"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == ends, done.stderr
    assert (table or "") in done.stdout
    assert ("could not be audited, so that nothing is known of them: 1" in done.stdout) == (
        UNKNOWN in (table or "")
    )
