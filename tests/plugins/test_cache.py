"""Compiled modules on disk: used where they can be trusted, and made anew everywhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plugins.host import engine
from plugins.host.cache import CompiledCache
from plugins.host.engine import Program, wat2wasm

NAME = "a" * 64


def test_what_was_saved_is_loaded_and_nobody_else_may_touch_it(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path / "compiled")
    assert cache.load(NAME) is None
    cache.save(NAME, b"machine code")
    assert cache.load(NAME) == b"machine code"
    assert (tmp_path / "compiled").stat().st_mode & 0o777 == 0o700
    (file,) = (tmp_path / "compiled").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


@pytest.mark.parametrize(
    "spoil",
    [
        _truncate,
        _flip,
        _link,
        lambda file: file.write_bytes(b""),
        lambda file: file.chmod(0o620),
        lambda file: file.chmod(0o602),
        lambda file: file.parent.chmod(0o770),
        lambda file: file.parent.chmod(0o707),
    ],
    ids=["truncated", "flipped", "link", "empty", "group", "others", "folder-group", "folder-others"],
)
def test_what_cannot_be_trusted_is_not_there(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    cache = CompiledCache(tmp_path / "compiled")
    cache.save(NAME, b"machine code")
    spoil(tmp_path / "compiled" / NAME)
    assert cache.load(NAME) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_another_user_is_not_there(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path / "compiled")
    cache.save(NAME, b"machine code")
    os.chown(tmp_path / "compiled" / NAME, 65534, -1)
    assert cache.load(NAME) is None


def test_folder_that_others_can_write_in_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "compiled"
    folder.mkdir()
    folder.chmod(0o777)
    CompiledCache(folder).save(NAME, b"machine code")
    assert not list(folder.iterdir())
    assert "others can write there" in caplog.text


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path / "compiled")
    for number in range(70):
        cache.save(f"{number:064}", b"x")
        os.utime(tmp_path / "compiled" / f"{number:064}", (number, number))
    cache.save(NAME, b"newest")
    assert len(list((tmp_path / "compiled").iterdir())) == 64
    assert cache.load(NAME) == b"newest"
    assert cache.load(f"{0:064}") is None


def test_program_is_compiled_once_and_then_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = wat2wasm(
        '(module (memory (export "memory") 1) (func (export "cached") (result i32) (i32.const 77)))'
    )
    folder = tmp_path / "compiled"
    monkeypatch.setattr(engine, "_REMEMBERED", 0)
    Program(code, CompiledCache(folder))
    (file,) = folder.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(engine.wasmtime, "Module", _OnlyLoads)
        Program(code, CompiledCache(folder))
        # One that is whole, and still no compiled module of this engine's.
        CompiledCache(folder).save(file.name, b"not of this engine")
        with pytest.raises(AssertionError, match="compiled"):
            Program(code, CompiledCache(folder))
    Program(code, CompiledCache(folder))
    loaded = CompiledCache(folder).load(file.name)
    assert loaded is not None
    assert len(loaded) > 1000


class _OnlyLoads(engine.wasmtime.Module):  # type: ignore[misc]
    def __init__(self, *_: object) -> None:
        raise AssertionError("compiled")
