"""One node for each folder."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from broker.datafolder import DataFolder, FolderError
from tests.end_to_end.nodes import NodeProcess


def test_second_node_is_told_who_has_the_folder(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "deep" / "data")
    with pytest.raises(FolderError, match=rf"another node that is running \(process {os.getpid()}\)"):
        DataFolder(tmp_path / "deep" / "data")
    first.close()
    DataFolder(tmp_path / "deep" / "data").close()


def test_others_of_the_machine_cannot_look_into_a_new_folder(tmp_path: Path) -> None:
    DataFolder(tmp_path / "data").close()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    chosen = tmp_path / "chosen"
    chosen.mkdir(0o750)
    DataFolder(chosen).close()
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o750, "the operator has decided"


def _take_and_die(path: Path) -> None:
    DataFolder(path)
    os._exit(1)


def test_folder_of_a_node_that_died_is_free(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_take_and_die, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == 1
    DataFolder(tmp_path).close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(FolderError, match="Permission denied"):
        DataFolder(tmp_path / "data")


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot be used"):
        DataFolder(tmp_path / "file")


def test_two_nodes_with_one_folder(tmp_path: Path) -> None:
    shared = {"node": {"name": "n", "data": str(tmp_path / "data")}}
    first = NodeProcess(tmp_path, "first", "folder", **shared)
    second = NodeProcess(tmp_path, "second", "folder", **shared)
    first.start()
    with pytest.raises(AssertionError, match="belongs to another node that is running"):
        second.start()
    assert first.stop() == 0
    second.start()
    assert second.stop() == 0
