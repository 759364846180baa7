"""`geomq record` and `geomq replay` against a real node, by real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli import app
from tests.end_to_end.nodes import ROOT, NodeProcess, wait_for
from tests.ports import free_port


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("record")
    found = NodeProcess(folder, "one", f"record-{uuid.uuid4().hex[:8]}", mesh={"enabled": False})
    found.start()
    yield found
    found.stop()


def begin(command: str, node: NodeProcess, *options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "broker", command, "--port", str(node.mqtt_port), *map(str, options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin_recording(node: NodeProcess, *options: object) -> subprocess.Popen[str]:
    """One that has subscribed."""
    recording = begin("record", node, *options)
    assert recording.stderr is not None
    assert recording.stderr.readline() == "recording, Ctrl-C ends it\n"
    return recording


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """(exit code, standard error)."""
    try:
        _, words = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, words


MESSAGES = [
    {"topic": "a/1", "payload": "one", "qos": 0, "retain": False},
    {
        "topic": "a/2",
        "payload_base64": "/wA=",
        "qos": 1,
        "retain": True,
        "properties": {
            "payload_format_indicator": 0,
            "content_type": "application/x",
            "response_topic": "answers",
            "correlation_data": "AQID",
            "user_property": [["k", "1"], ["k", "2"]],
        },
    },
    {"topic": "a/3", "payload": "Grüezi\n", "qos": 2, "retain": False},
]


def test_what_is_replayed_is_recorded(node: NodeProcess, tmp_path: Path) -> None:
    """The same messages come out that went in, with their pauses; the recording begins when it is subscribed."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    times = [
        "2026-01-31T12:00:00.000+00:00",
        "2026-01-31T12:00:00.600+00:00",
        "2026-01-31T12:00:00.600+00:00",
    ]
    source.write_text(
        "\n".join(json.dumps({"time": time, **line}) for time, line in zip(times, MESSAGES, strict=True))
    )
    recording = begin_recording(node, "--topic", "a/1", "-t", "a/2", "-t", "a/3", "--file", target)
    assert end(begin("replay", node, source)) == (0, "3 messages published\n")
    wait_for(lambda: "a/3" in target.read_text(), "the messages are recorded")
    recording.send_signal(signal.SIGINT)
    code, words = end(recording)
    assert code == 0
    assert words == "3 messages recorded\n"
    assert target.stat().st_mode & 0o077 == 0, "a recording is its owner's alone"
    found = [json.loads(line) for line in target.read_text().splitlines()]
    heard = [datetime.fromisoformat(line.pop("time")).timestamp() for line in found]
    assert found == MESSAGES
    assert heard[1] - heard[0] > 0.5


def test_as_fast_as_possible(node: NodeProcess, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    line = '{{"time": {}, "topic": "fast", "payload": "{}", "qos": {}}}\n'
    source.write_text("".join(line.format(number * 1000, number, number % 3) for number in range(3000)))
    options = ["-t", "test/fast", "--count", 3000, "--file", target, "--mqtt-3.1.1"]
    recording = begin_recording(node, *options)
    assert end(begin("replay", node, source, "--speed", 0, "--prefix", "test/")) == (
        0,
        "3000 messages published\n",
    )
    assert end(recording) == (0, "3000 messages recorded\n")
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    for qos in range(3):
        numbers = [int(line["payload"]) for line in lines if line["qos"] == qos]
        assert numbers == list(range(qos, 3000, 3))


def test_it_ends_by_itself(node: NodeProcess) -> None:
    recording = begin_recording(node, "-t", "quiet", "--seconds", "0.1")
    assert end(recording) == (0, "0 messages recorded\n")


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("record", ["-t", "a/#/b"], "--topic 'a/#/b': "),
        ("record", ["-t", "a", "--host", "host.invalid"], "host.invalid:"),
        ("record", ["-t", "a", "--file", "/nowhere/x"], "/nowhere/x: No such file"),
        ("record", ["-t", "a", "--password-file", "x"], "--password-file needs --user"),
        ("record", ["-t", "a", "--user", "a", "--password-file", "/nowhere/x"], "/nowhere/x: "),
        ("replay", ["/nowhere/x"], "/nowhere/x: No such file"),
        ("replay", ["/dev/null", "--prefix", "a/#"], "--prefix 'a/#': "),
        ("replay", ["/dev/null", "--ca", "/nowhere/ca"], "No such file"),
    ],
)
def test_mistakes_are_told(node: NodeProcess, command: str, options: list[str], words: str) -> None:
    result = CliRunner().invoke(app, [command, "--port", str(node.mqtt_port), *options])
    assert result.exit_code == 1
    assert words in result.stderr


def test_nobody_is_there() -> None:
    result = CliRunner().invoke(app, ["replay", "/dev/null", "--port", str(free_port())])
    assert result.exit_code == 1
    assert "Connection refused" in result.stderr


def test_who_may_not(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Refusals of the broker are told: the connection, the subscription, a message."""
    users, acl = tmp_path / "users.txt", tmp_path / "acl.txt"
    acl.write_text("allow user=ann subscribe a/#\n")
    secret = tmp_path / "secret"
    secret.write_text("wonderland\n")
    subprocess.run(
        [sys.executable, "-m", "broker", "user", "add", "ann", "--file", users, "--password-stdin"],
        cwd=ROOT,
        input="wonderland\n",
        text=True,
        check=True,
        timeout=30,
    )
    access = {"users": str(users), "acl": str(acl)}
    node = NodeProcess(
        tmp_path, "shut", f"record-{uuid.uuid4().hex[:8]}", mesh={"enabled": False}, access=access
    )
    node.start()
    request.addfinalizer(node.stop)
    ann = ["--user", "ann", "--password-file", secret]
    recording = tmp_path / "recording"
    recording.write_text('{"topic": "a/b", "qos": 1}')
    assert end(begin("record", node, "-t", "a/#", "--seconds", "0.1", *ann)) == (
        0,
        "recording, Ctrl-C ends it\n0 messages recorded\n",
    )
    code, words = end(begin("record", node, "-t", "a/#", "--user", "ann", "--password-file", recording))
    assert code == 1
    assert "refuses the connection: Bad user name or password" in words
    code, words = end(begin("record", node, "-t", "b/#", *ann))
    assert code == 1
    assert "refuses the subscription: Not authorized" in words
    code, words = end(begin("replay", node, recording, *ann))
    assert code == 1
    assert "refuses a message: Not authorized" in words
