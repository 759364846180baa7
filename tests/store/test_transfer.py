"""`geomq store`: a database is checked, copied while its node runs, written out and read in again."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from broker.store.database import Database
from broker.store.transfer import TransferError, bring_in, counts, exported, problems, reading
from edge_mesh.outbox_store import OutboxStore
from tests.end_to_end import nodes
from tests.end_to_end.nodes import Client, NodeProcess, wait_for
from tests.store.test_database import kept, owing, retaining
from tests.store.test_salvage import log_of, spoil


def geomq(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command about the store."""
    return nodes.geomq("store", *arguments)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A node's folder with a bit of everything."""
    folder = tmp_path / "data"
    folder.mkdir()
    database = Database(folder / "broker.db")
    group = owing(3, 20)
    group.retained = {"r": kept("r", b"\x00\xff")}
    group.incoming = {(1, 7): True}
    group.releasing = {(2, 9): 4}
    group.marks = {"eu": (5, 6)}
    database.write(group)
    database.close()
    return folder


def test_what_is_written_out_is_read_in(filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    assert geomq("export", out, "--data", filled).returncode == 0
    head, *rows, end = map(json.loads, out.read_text().splitlines())
    assert head == {"format": "geomq-export-1", "schema": 4}
    assert end == {"end": len(rows)}
    assert {row["table"] for row in rows} >= {"session", "delivery", "message", "retained", "mark"}
    again = tmp_path / "again"
    done = geomq("import", out, "--data", again)
    assert done.returncode == 0, done.stderr
    assert "3 sessions, 3 subscriptions, 60 queued messages, 20 messages stored for them" in done.stdout
    with reading(filled / "broker.db") as one, reading(again / "broker.db") as other:
        assert list(exported(one)) == list(exported(other))
    refused = geomq("import", out, "--data", again)
    assert refused.returncode == 1
    assert "is not empty: say --replace" in refused.stderr
    assert geomq("import", out, "--data", again, "--replace").returncode == 0
    assert "File exists" in geomq("export", out, "--data", filled).stderr, "nothing is written over"


HEAD = '{"format": "geomq-export-1", "schema": 4}'


def test_file_that_was_cut_changes_nothing(filled: Path) -> None:
    path = filled / "broker.db"
    with reading(path) as connection:
        lines = list(exported(connection))
    for cut in range(1, len(lines)):
        with pytest.raises(TransferError, match="the file was cut"):
            bring_in(lines[:cut], path, replace=True)
    with pytest.raises(TransferError, match=f"{len(lines) - 3} rows are there of {len(lines) - 2}"):
        bring_in([*lines[:5], *lines[6:]], path, replace=True)
    with reading(path) as connection:
        assert list(exported(connection)) == lines


def test_file_that_is_no_text(filled: Path, tmp_path: Path) -> None:
    file = tmp_path / "strange.jsonl"
    file.write_bytes(HEAD.encode() + b"\n\xff\xfe\n")
    done = geomq("import", file, "--data", filled, "--replace")
    assert done.returncode == 1
    assert "not UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", "line 2 cannot be understood"),
        ('{"table": "unknown"}', "line 2 cannot be understood"),
        ('{"table": "incoming", "session": 1}', "a row of incoming has session, packet_id"),
        ('{"table": "incoming", "session": 1, "packet_id": null}', "packet_id of incoming cannot be None"),
        ('{"table": "incoming", "session": 1, "packet_id": "7"}', "packet_id of incoming cannot be '7'"),
        ('{"table": "incoming", "session": 1, "packet_id": true}', "packet_id of incoming cannot be True"),
        ('{"table": "incoming", "session": 1, "packet_id": ' + "9" * 30 + "}", "line 2 cannot be understood"),
        ('{"table": "delivery", "session": 1, "number": 1, "message": 1, "qos": 1, "retain": 0,'
         ' "identifiers": {"base64": ""}, "size": 1, "sent": 0}', "1 queued messages of unknown sessions"),
    ],
)  # fmt: skip
def test_bad_lines_change_nothing(filled: Path, line: str, says: str) -> None:
    path = filled / "broker.db"
    with reading(path) as connection:
        before = counts(connection)
    with pytest.raises(TransferError, match=says):
        bring_in([HEAD, line, '{"end": 1}'], path, replace=True)
    with pytest.raises(TransferError, match="line 1"):
        bring_in([], path, replace=True)
    with pytest.raises(TransferError, match="schema 99"):
        bring_in(['{"format": "geomq-export-1", "schema": 99}'], path, replace=True)
    with reading(path) as connection:
        assert counts(connection) == before
        assert problems(connection) == []


def test_check_tells_what_is_wrong(filled: Path, tmp_path: Path) -> None:
    good = geomq("check", "--data", filled)
    assert (good.returncode, good.stderr) == (0, "")
    assert "is sound: 3 sessions" in good.stdout
    assert "there is no such file" in geomq("check", "--data", tmp_path / "nowhere").stderr
    path = filled / "broker.db"
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM message WHERE key = 1")
    bad = geomq("check", "--data", filled)
    assert bad.returncode == 1
    assert "3 queued messages without their content" in bad.stderr
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 4] = b"\xff" * (4096 * 3)
    path.write_bytes(data)
    assert geomq("check", "--data", filled).returncode == 1


def test_check_looks_at_texts_and_at_the_other_databases(filled: Path) -> None:
    path = filled / "broker.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE retained SET topic = CAST(x'ff' AS TEXT)")
    bad = geomq("check", "--data", filled)
    assert bad.returncode == 1
    assert "Could not decode to UTF-8" in bad.stderr
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM retained")
    OutboxStore(filled / "outbox.db").close()
    assert "outbox.db is sound" in geomq("check", "--data", filled).stdout
    data = bytearray((filled / "outbox.db").read_bytes())
    data[4096:12288] = b"\xff" * 8192
    (filled / "outbox.db").write_bytes(data)
    bad = geomq("check", "--data", filled)
    assert (bad.returncode, "outbox.db is damaged" in bad.stderr) == (1, True)
    assert "broker.db is sound" in bad.stdout


def test_check_finds_what_sqlite_does_not(filled: Path) -> None:
    path = filled / "broker.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE session SET left_at = 'yesterday' WHERE key = 2")
    assert (
        "1 rows of its table session have values of a wrong type" in geomq("check", "--data", filled).stderr
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE session SET left_at = 1.5 WHERE key = 2")
        connection.execute("DROP TABLE mark")
    assert "its table mark is missing" in geomq("check", "--data", filled).stderr
    OutboxStore(filled / "outbox.db").close()
    with closing(sqlite3.connect(filled / "outbox.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE peer DROP COLUMN seen_at")
    assert "its table peer has not the columns" in geomq("check", "--data", filled).stderr
    (filled / "outbox.db").write_bytes(b"")
    assert "outbox.db is damaged" in geomq("check", "--data", filled).stderr


def test_check_looks_at_logs(filled: Path) -> None:
    path, copy = filled / "broker.db", filled.parent / "copy" / "broker.db"
    copy.parent.mkdir()
    with closing(Database(path)) as database:
        for number in range(5):
            database.write(retaining([kept(f"t/{number}")]))
        for part in ("", "-wal"):
            shutil.copyfile(f"{path}{part}", f"{copy}{part}")
    log = log_of(copy).read_bytes()
    assert geomq("check", "--data", copy.parent).returncode == 0
    log_of(copy).write_bytes(log)
    spoil(log_of(copy), 2000)
    assert "its write-ahead log is bad at byte" in geomq("check", "--data", copy.parent).stderr
    copy.unlink()
    assert "it is missing, though it has a log" in geomq("check", "--data", copy.parent).stderr


def test_backup_of_a_running_node(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path, "node", "backup", mesh={"enabled": False})
    node.start()
    client = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    client.subscribe("t/#", 1)
    client.close()
    publisher = Client(node, "publisher")
    sent = {publisher.publish(f"t/{number}", b"x", 1) for number in range(100)}
    wait_for(lambda: publisher.acknowledged >= sent, "all are acknowledged")
    data = node.folder / "data"
    copy = tmp_path / "copy"
    done = geomq("backup", copy, "--data", data)
    assert done.returncode == 0, done.stderr
    assert copy.stat().st_mode & 0o077 == 0, "payloads are in there"
    assert "is there already" in geomq("backup", copy, "--data", data).stderr
    busy = geomq("import", tmp_path / "node" / "node.yaml", "--data", data)
    assert "belongs to another node that is running" in busy.stderr
    assert "1 sessions, 1 subscriptions, 100 queued messages" in geomq("check", "--data", data).stdout
    node.kill()
    assert "1 sessions, 1 subscriptions, 100 queued messages" in geomq("check", "--data", copy).stdout
    node.config["node"]["data"] = str(copy)
    node.start()
    again = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    wait_for(lambda: len(again.received) == 100, "the copy has them")
    again.close()
    publisher.close()
    assert node.stop() == 0
