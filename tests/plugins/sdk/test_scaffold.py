"""`geomq plugin new`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from broker.cli import app
from broker.config import load_text
from plugins.tools.scaffold import LANGUAGES, SDK
from tests.plugins.sdk.toolchains import EVERY, built

RUN = CliRunner()


@pytest.mark.parametrize(("language", "example"), EVERY)
def test_a_new_folder_is_complete(language: str, example: str, tmp_path: Path) -> None:
    folder = tmp_path / "my-rule"
    options = ["--lang", language, "--example", example, "--folder", str(folder)]
    result = RUN.invoke(app, ["plugin", "new", "my-rule", *options])
    assert result.exit_code == 0, result.output
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"Makefile", "README.md", "rules.yaml", "sample.jsonl", LANGUAGES[language].source} <= files
    for path in files:
        text = (folder / path).read_text()
        assert "@NAME@" not in text, path
        assert "@NOTE@" not in text, path
    says_which_rustc = "RUSTC=/usr/bin/rustc" in (folder / "README.md").read_text()
    assert says_which_rustc == (language == "rust")
    entry = yaml.safe_load((folder / "rules.yaml").read_text())
    assert (entry["name"], entry["module"]) == ("my-rule", "./my-rule.wasm")
    (rule,) = load_text(yaml.safe_dump({"plugins": {"ingress": [entry]}}), folder=folder).plugins.ingress
    assert rule.module == str(folder / "my-rule.wasm")
    assert "my-rule.wasm" in (folder / "Makefile").read_text()


@pytest.mark.parametrize("example", LANGUAGES["c"].examples)
def test_new_plugin_passes_its_own_trial(example: str, tmp_path: Path) -> None:
    folder = tmp_path / "my-rule"
    RUN.invoke(app, ["plugin", "new", "my-rule", "--example", example, "--folder", str(folder)])
    shutil.copy(built("c", example), folder / "my-rule.wasm")
    options = [str(folder / "rules.yaml"), "--file", str(folder / "sample.jsonl")]
    result = RUN.invoke(app, ["plugin", "test", *options])
    assert result.exit_code == 0, result.output
    assert "no entry is for" not in result.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_brings_the_compiler_of_assemblyscript(tmp_path: Path) -> None:
    folder = tmp_path / "my-rule"
    RUN.invoke(app, ["plugin", "new", "my-rule", "--lang", "assemblyscript", "--folder", str(folder)])
    plan = subprocess.run(
        ["make", "--no-print-directory", "-n", "check"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[0] for line in plan.stdout.splitlines()] == ["npm", "node_modules/.bin/asc", "geomq"]


def test_every_file_of_the_sdk_reaches_a_new_folder() -> None:
    """A file that the list of a language's library forgets would be missing from what it writes."""
    for language, chosen in LANGUAGES.items():
        home = SDK / language
        examples = {f"{example}.{chosen.suffix}" for example in chosen.examples}
        found = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
        assert found - examples - {"Makefile"} == set(chosen.library), language


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["my rule"], "'my rule' cannot be a plugin's name"),
        (["../x"], "cannot be a plugin's name"),
        (["x", "--lang", "wat", "--example", "mask"], "there is no example 'mask' in wat: empty"),
        (["x", "--folder", "."], "is not empty"),
        (["x", "--folder", "/proc/none/x"], "No such file or directory"),
    ],
)
def test_what_cannot_be_made_is_told(arguments: list[str], words: str) -> None:
    result = RUN.invoke(app, ["plugin", "new", *arguments])
    assert result.exit_code == 1
    assert words in result.output


def test_text_that_is_no_module(tmp_path: Path) -> None:
    source = tmp_path / "x.wat"
    source.write_text("(module (func $x)\n  (nonsense))")
    result = RUN.invoke(app, ["plugin", "assemble", str(source)])
    assert result.exit_code == 1
    assert "not the text of a module" in result.output
    assert not (tmp_path / "x.wasm").exists()


def test_the_compiler_that_is_tested_is_the_one_that_a_new_folder_asks_for() -> None:
    asked = json.loads((SDK / "assemblyscript" / "package.json").read_text())["devDependencies"]
    tested = json.loads((Path(__file__).parent / "package.json").read_text())["dependencies"]
    assert asked == tested
