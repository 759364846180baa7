"""Secrets in files: what the module gets, and what happens where there is none."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from broker.config.read import load
from plugins.host.breaker import Breaker
from plugins.host.engine import wat2wasm
from plugins.host.entry import EGRESS, Entry
from plugins.host.frame import Fields
from plugins.host.keys import key_files, with_keys
from plugins.host.pipeline import Rule
from plugins.host.reasons import PluginError

SECRET = b"correct horse"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "secret.key"
    path.write_bytes(SECRET + b" \n")
    path.chmod(0o600)
    return path


def test_key_files_are_replaced_wherever_they_stand(key: Path) -> None:
    config = {"steps": [{"hash": {"key_file": str(key), "path": "vin"}}, {"key": "00"}], "n": 1}
    assert with_keys(config) == {
        "steps": [{"hash": {"key": SECRET.hex(), "path": "vin"}}, {"key": "00"}],
        "n": 1,
    }
    assert list(key_files(config)) == [key]
    assert "key_file" in config["steps"][0]["hash"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"", "0 bytes"), (b"seven77 \n\n", "7 bytes; allowed: 8")]
)
def test_unusable_key_files(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PluginError, match=words) as caught:
        with_keys({"key_file": str(path)})
    assert str(path) in str(caught.value)


def test_key_and_key_file_exclude_each_other(key: Path) -> None:
    with pytest.raises(PluginError, match="either it or key"):
        with_keys({"key_file": str(key), "key": "00"})


def test_world_readable_key_is_used_and_warned_of(key: Path, caplog: pytest.LogCaptureFixture) -> None:
    key.chmod(0o644)
    assert with_keys({"key_file": str(key)}) == {"key": SECRET.hex()}
    assert "can be read by everybody" in caplog.text


WANTS_CONFIG = """
  (memory (export "memory") 2)
  (global (export "geomq_abi") i32 (i32.const 1))
  (data (i32.const 16) "%s")
  (data (i32.const 8) "other\\00")
  (func (export "geomq_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "geomq_init") (param $at i32) (param $length i32) (result i32)
    (local $i i32)
    (loop $next
      (if (i32.ne (i32.load8_u (i32.add (i32.const 16) (local.get $i)))
                  (i32.load8_u (i32.add (local.get $at) (local.get $i))))
        (then (return (i32.const 8))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $length))))
    (i32.const 0))
"""
"""Refuses every configuration but one."""


def test_rule_fails_closed_until_its_key_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "late.key"
    wanted = json.dumps({"key": SECRET.hex()}).replace('"', '\\"')
    module = tmp_path / "module.wasm"
    module.write_bytes(
        wat2wasm(
            f"(module {WANTS_CONFIG % wanted}"
            '(func (export "geomq_process") (param i32 i32) (result i64) (i64.const 0)))'
        )
    )
    rule = Rule(Entry("mask", EGRESS, str(module), ("#",), {"key_file": str(path)}))
    batch = [Fields(b"t", b"1")]
    assert rule.run(batch, 1.0).messages == [None]
    assert "late.key: No such file" in rule.last_error
    path.write_bytes(SECRET)
    monkeypatch.setattr(rule, "_loading", Breaker())
    assert rule.run(batch, 1.0).messages == batch
    assert SECRET.decode() not in caplog.text
    assert SECRET.hex() not in caplog.text
    rule.close()


def test_key_files_count_from_the_configuration_files_folder(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(
        "plugins:\n  egress:\n  - name: mask\n    topics: ['#']\n    module: other.wasm\n"
        "    config: {steps: [{action: hash, key_file: keys/vin.key}]}\n"
    )
    (rule,) = load(path, {}).plugins.egress
    assert rule.config["steps"][0]["key_file"] == str(tmp_path / "keys/vin.key")
