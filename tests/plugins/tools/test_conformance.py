"""`geomq plugin check` and `inspect`: what keeps to the interface passes, every habit that does not is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli import app
from plugins.host.engine import wat2wasm
from plugins.host.limits import Limits
from plugins.tools.conformance import conformance
from plugins.tools.frames import batch, request, with_more_fields, with_unknown_flags
from tests.plugins import modules
from tests.plugins.sdk.toolchains import EVERY, built

CONFIG = b'{"member": "speed", "at_least": 5, "prefix": "p", "seconds": 60, "topic": "t"}'
ALLOC = '(func (export "geomq_alloc") (param i32) (result i32) (i32.const 4096))'
GOOD_ALLOC = """(func (export "geomq_alloc") (param $size i32) (result i32)
  (if (i32.gt_u (local.get $size) (i32.const 0x1000000)) (then (return (i32.const 0))))
  (if (i32.gt_u (i32.add (local.get $size) (i32.const 65536)) (i32.mul (memory.size) (i32.const 65536)))
    (then (if (i32.eq (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))
                      (i32.const -1)) (then (return (i32.const 0))))))
  (i32.const 65536))"""
INIT = '(func (export "geomq_init") (param i32 i32) (result i32) (i32.const 0))'
HEADER = modules.HEADER.replace(ALLOC, GOOD_ALLOC)
TICK = '(func (export "geomq_tick") (param i64) (result i64) {})'


def failures(process: str, header: str = HEADER) -> dict[str, str]:
    """The checks that a module fails, with what they say."""
    code = modules.module(process, header)
    return {check.name: check.problem for check in conformance(code, b"{}", Limits()) if check.problem}


@pytest.mark.parametrize(("language", "example"), EVERY)
def test_what_the_sdks_make_conforms(language: str, example: str) -> None:
    code = built(language, example).read_bytes()
    checks = list(conformance(code, CONFIG, Limits()))
    assert not [check for check in checks if check.problem]
    assert len(checks) > 20


def test_a_plain_module_conforms() -> None:
    assert failures(modules.PASSES) == {}
    assert failures(modules.PASSES, HEADER + TICK.format("(i64.const 0)")) == {}


def notes(process: str) -> dict[str, str]:
    """What is worth knowing of a module, by check."""
    checks = conformance(modules.module(process, HEADER), b"{}", Limits())
    return {check.name: check.note for check in checks if check.note and not check.problem}


def test_who_remembers_answers_is_told_so() -> None:
    """No mistake: modules may be older than the flag."""
    assert notes(modules.PASSES) == notes(PASSES_ANSWERS) == {}
    assert notes(COUNTS_UNTIL_TWO) == {
        "answers for other nodes": "it remembers them as messages that are published"
    }


STEPS_BY_ITS_OWN = modules.DROPS_ALL.replace(
    "(memory.fill (i32.const 60032) (i32.const 1)",
    """(if (i32.ne (i32.load offset=32 (local.get $at)) (i32.const 48)) (then (unreachable)))
    (memory.fill (i32.const 60032) (i32.const 1)""",
)
COUNTS_UNTIL_TWO = modules.DROPS_ALL.replace(
    "(memory.fill (i32.const 60032) (i32.const 1)",
    """(i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
    (memory.fill (i32.const 60032) (i32.eq (i32.load (i32.const 1024)) (i32.const 2))""",
)
"""Drops its second batch."""
PASSES_ANSWERS = COUNTS_UNTIL_TWO.replace(
    "(i32.store (i32.const 1024)",
    """(if (i32.and (i32.load16_u (i32.add (local.get $at) (i32.const 90))) (i32.const 1))
      (then (return (i64.const 0))))
    (i32.store (i32.const 1024)""",
)
HEEDS_FLAGS = modules.DROPS_ALL.replace(
    "(memory.fill (i32.const 60032) (i32.const 1)",
    """(memory.fill (i32.const 60032) (i32.load16_u (i32.add (local.get $at) (i32.const 90)))""",
)
REMEMBERS = """
  (if (i32.load (i32.const 1024)) (then (unreachable)))
  (i32.store (i32.const 1024) (i32.const 1)) (i64.const 0)"""


@pytest.mark.parametrize(
    ("process", "header", "name", "words"),
    [
        (modules.PASSES, HEADER.replace(INIT, ""), "exports geomq_init", "it is missing"),
        (
            modules.PASSES,
            HEADER.replace("i32.const 1))", "i32.const 2))"),
            "starts, for",
            "made for version 2",
        ),
        (
            modules.PASSES,
            HEADER.replace(INIT, INIT.replace("(param i32 i32)", "(param i32)")),
            "exports geomq_init",
            "as (i32) -> i32; it has to be (i32 i32) -> i32",
        ),
        (
            modules.PASSES,
            '(import "env" "now" (func (result i64)))' + HEADER,
            "imports nothing but geomq.state_get",
            "env.now () -> i64",
        ),
        (
            modules.PASSES,
            '(import "geomq" "state_get" (func (result i64)))' + HEADER,
            "imports nothing but geomq.state_get",
            "geomq.state_get () -> i64",
        ),
        (
            modules.PASSES,
            HEADER + TICK.format("(i64.const 0)").replace("(param i64)", "(param i32)"),
            "exports geomq_tick",
            "as",
        ),
        (
            modules.PASSES,
            HEADER.replace(INIT, INIT.replace("(i32.const 0)", "unreachable")),
            "takes its configuration",
            "geomq_init failed: trapped",
        ),
        (
            modules.PASSES,
            HEADER.replace("(i32.const 65536))", "(i32.const 65540))"),
            "geomq_alloc: 8-byte aligned",
            "0 bytes at 65540",
        ),
        (modules.PASSES, modules.HEADER, "a message of 256 KiB", "outside the memory"),
        (modules.PASSES, modules.HEADER, "geomq_alloc: no room", "2147418112 bytes at 4096"),
        (
            modules.PASSES,
            HEADER.replace("(i32.const 65536))", "(i32.shl (memory.grow (i32.const 1)) (i32.const 16)))"),
            "geomq_alloc: uses room again",
            "outside of any memory",
        ),
        (REMEMBERS, HEADER, "batches one after the other", "batch 2 of 400: trapped"),
        (modules.TRAPS, HEADER, "a batch without messages", "trapped"),
        (modules.SPRAWLS, HEADER, "a batch of 1", "a result of"),
        (STEPS_BY_ITS_OWN, HEADER, "fields that later versions append", "trapped"),
        (HEEDS_FLAGS, HEADER, "flags that later versions set", "unknown verdict"),
        (
            modules.PASSES,
            HEADER.replace(
                INIT,
                '(func (export "geomq_init") (param i32 i32) (result i32) (i32.ne (local.get 1) (i32.const 2)))',
            ),
            "wrong configurations are refused",
            "refused with the text ''",
        ),
        (modules.PASSES, HEADER + TICK.format("unreachable"), "geomq_tick: effects only", "trapped"),
    ],
)
def test_what_does_not_conform_is_found(process: str, header: str, name: str, words: str) -> None:
    found = failures(process, header)
    problems = [problem for check, problem in found.items() if check.startswith(name)]
    assert problems, found
    assert words in problems[0]


@pytest.mark.parametrize(
    ("process", "header", "words"),
    [
        (modules.LOOPS, HEADER, "used up its fuel"),
        (modules.GROWS, HEADER, "trapped"),
        (modules.RECURSES, HEADER, "overflowed its stack"),
        (modules.ELSEWHERE, HEADER, "outside the memory"),
        (
            modules.PASSES,
            HEADER + "(func $loop (loop $again (br $again))) (start $loop)",
            "cannot be instantiated",
        ),
        (
            modules.PASSES,
            HEADER.replace(INIT, INIT.replace("(i32.const 0)", "(loop $a (br $a)) (i32.const 0)")),
            "fuel",
        ),
    ],
    ids=["loop", "memory bomb", "recursion", "wild pointer", "start that loops", "init that loops"],
)
def test_hostile_modules_fail_the_check_and_nothing_else(process: str, header: str, words: str) -> None:
    assert any(words in problem for problem in failures(process, header).values())


def test_bytes_that_are_no_module() -> None:
    (check,) = conformance(b"\x7fELF", b"{}", Limits())
    assert "not a wasm module" in check.problem


def test_frames_of_later_versions_say_the_same() -> None:
    messages = batch(7)
    data = request(messages)
    longer = with_more_fields(data, 24, 16)
    assert len(longer) == len(data) + 24 + 7 * 16
    assert longer.endswith(
        messages[-1].topic + messages[-1].payload + b"".join(messages[-1][2:4]) + messages[-1].user
    )
    at = int.from_bytes(longer[24:28], "little")
    step = int.from_bytes(longer[32:36], "little")
    for number, message in enumerate(messages):
        entry = longer[at + number * step :]
        offset, length = (int.from_bytes(entry[where : where + 4], "little") for where in (8, 12))
        assert longer[offset : offset + length] == message.payload
    assert with_unknown_flags(data)[56 + 34 : 56 + 40] == b"\xfe" + b"\xff" * 5


# -- the commands ----------------------------------------------------------------------------------------

RUN = CliRunner()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "good.wasm"
    path.write_bytes(modules.module(modules.PASSES, HEADER))
    return path


def test_check_tells_each_check(module: Path) -> None:
    result = RUN.invoke(app, ["plugin", "check", str(module)])
    assert result.exit_code == 0
    assert "passed  a batch of 512\n" in result.output
    assert result.output.splitlines()[-1].endswith(" passed, 0 failed")
    module.write_bytes(modules.module(modules.TRAPS, HEADER))
    result = RUN.invoke(app, ["plugin", "check", str(module)])
    assert result.exit_code == 1
    assert "failed  a batch of 1: trapped\n" in result.output


def test_check_as_json(module: Path) -> None:
    result = RUN.invoke(app, ["plugin", "check", str(module), "--json"])
    report = json.loads(result.output)
    assert result.exit_code == 0
    assert (report["file"], report["failed"], report["passed"]) == (str(module), 0, len(report["checks"]))
    assert {"name": "a batch of 512", "passed": True, "problem": "", "note": ""} in report["checks"]
    module.write_bytes(modules.module(COUNTS_UNTIL_TWO, HEADER))
    noted = json.loads(RUN.invoke(app, ["plugin", "check", str(module), "--json"]).output)["checks"]
    assert [one["passed"] for one in noted if one["note"]] == [True]
    module.write_bytes(modules.module(modules.TRAPS, HEADER))
    result = RUN.invoke(app, ["plugin", "check", str(module), "--json"])
    report = json.loads(result.output)
    assert result.exit_code == 1
    assert report["failed"] == len([one for one in report["checks"] if not one["passed"]]) > 0
    assert "trapped" in [one["problem"] for one in report["checks"] if one["name"] == "a batch of 1"]
    result = RUN.invoke(app, ["plugin", "check", str(module.with_name("none.wasm")), "--json"])
    assert (result.exit_code, result.stdout) == (1, "")


def test_check_takes_an_entry_of_a_file(tmp_path: Path) -> None:
    module = built("c", "filter")
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"- {{name: a, topics: [t], module: {module}, config: {{member: a, at_least: 1}}}}")
    assert RUN.invoke(app, ["plugin", "check", str(rules)]).exit_code == 0
    assert RUN.invoke(app, ["plugin", "check", str(module), "--config", CONFIG.decode()]).exit_code == 0
    result = RUN.invoke(app, ["plugin", "check", str(module)])
    assert result.exit_code == 1
    assert "failed  takes its configuration: member: the name of a number" in result.output


def test_the_built_in_module_conforms() -> None:
    result = RUN.invoke(app, ["plugin", "check", "rules"])
    assert result.exit_code == 0, result.output


def test_inspect(module: Path) -> None:
    result = RUN.invoke(app, ["plugin", "inspect", str(module)])
    assert result.exit_code == 0
    assert "interface   geomq-plugin-1\n" in result.output
    assert "geomq_process (i32 i32) -> i64" in result.output
    assert "not reach the network" in result.output
    report = json.loads(RUN.invoke(app, ["plugin", "inspect", str(module), "--json"]).output)
    assert report["memory"] == "128 KiB at first, no bound of its own; the host allows 16,384 KiB"
    assert (report["state"], report["tick"]) == ("reads none", "is called with messages only")
    assert report["imports"] == []
    assert len(report["sha256"]) == 64


def test_inspect_what_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "foreign.wasm"
    path.write_bytes(wat2wasm('(module (import "wasi" "open" (func)) (memory (export "memory") 1 3))'))
    report = json.loads(RUN.invoke(app, ["plugin", "inspect", str(path), "--json"]).output)
    assert report["interface"] == "refused: imports wasi.open, which is not offered"
    assert report["may"] == ["nothing: the host does not offer wasi.open"]
    assert "at most 192 KiB" in report["memory"]
    path.write_bytes(b"nonsense")
    assert "not a wasm module" in RUN.invoke(app, ["plugin", "inspect", str(path)]).output
    assert RUN.invoke(app, ["plugin", "inspect", str(tmp_path / "none.wasm")]).exit_code == 1
