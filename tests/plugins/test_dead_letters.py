"""What rules could not work on is kept, with the reason: on real files."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.config import ConfigError, load_text
from broker.message import Message
from broker.ports import Stage
from broker.protocol.constants import Prop
from broker.protocol.properties import write_bare
from plugins.dead_letters import DeadLetters
from plugins.host.entry import EGRESS, INGRESS, DeadLetter, Entry, Failed
from plugins.host.frame import Fields
from plugins.host.reasons import Reason
from plugins.stages import Stages
from tests.plugins import modules

WHY = Reason("why", "why")


class Around:
    """Remembers what is told to subscribers of this node."""

    def __init__(self) -> None:
        self.letters: list[Message] = []

    def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
        raise AssertionError("emitted")

    def dead(self, messages: Sequence[Message]) -> None:
        self.letters += messages

    def rules_changed(self) -> None:
        raise AssertionError("changed")


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_failed_message_goes_to_its_topic_and_file(tmp_path: Path) -> None:
    module = tmp_path / "poison.wasm"
    module.write_bytes(modules.module(modules.TRAPS_ON_BANG))
    place = DeadLetter("dead/mask", tmp_path / "dead.jsonl")
    stages = Stages([Entry("mask", EGRESS, str(module), ("#",), dead_letter=place)])
    stages.surroundings = around = Around()
    batch = [
        Message("t/1", b"1"),
        Message("t/2", b"!\xff", 1, True, b"", 0.0, "device", "", 0, "ann"),
        Message("t/3", "!Ä".encode()),
    ]
    processed = stages.run(Stage.EGRESS, batch, time.time(), lambda *_: None)
    assert processed.messages == [batch[0], None, None]
    stages.close()
    first, second = read(tmp_path / "dead.jsonl")
    assert str(first.pop("time")).startswith("20")
    assert first == {
        "rule": "mask",
        "stage": "egress",
        "reason": "trapped",
        "topic": "t/2",
        "client": "device",
        "user": "ann",
        "qos": 1,
        "retain": True,
        "payload_base64": "If8=",
    }
    assert (second["topic"], second["payload"]) == ("t/3", "!Ä")
    assert (tmp_path / "dead.jsonl").stat().st_mode & 0o777 == 0o600
    assert [(m.topic, m.qos, m.retain) for m in around.letters] == [
        ("dead/mask", 1, False),
        ("dead/mask", 0, False),
    ]
    assert json.loads(around.letters[1].payload) == second


@pytest.mark.parametrize("on_error", ["drop", "pass"])
@pytest.mark.parametrize(
    ("step", "payload", "reason"),
    [
        ({"action": "remove", "path": "a"}, b"{", "the payload is not JSON"),
        (
            {"action": "remove", "path": "a"},
            b"[" * 65 + b"]" * 65,
            "the payload is nested deeper than 64 levels",
        ),
        ({"action": "remove", "path": "a"}, b"\xef\xbb\xbf{}", "the payload begins with a byte order mark"),
        ({"action": "topic", "to": "x/{path:a}"}, b"", "it has no {path:a} that a topic can be made of"),
        (
            {"action": "topic", "to": "x/{0}/{path:a}"},
            b'{"a":"b/c"}',
            "it has no {path:a} that a topic can be made of",
        ),
        ({"action": "topic", "to": "{path:a}"}, b'{"a":"$SYS"}', "no topic comes of it"),
    ],
)
def test_what_the_built_in_rules_cannot_decode_is_a_dead_letter(
    on_error: str, step: dict[str, str], payload: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is never passed on, whatever becomes of messages when the module fails, for it does not: the breaker stays
    closed, and the log has no line for each."""
    entry = Entry(
        "r", INGRESS, "rules", ("#",), {"steps": [step]}, on_error=on_error, dead_letter=DeadLetter("dead")
    )
    stages = Stages([entry])
    stages.surroundings = around = Around()
    good = Message("t", b'{"b":1,"a":"c"}')
    for _ in range(10):
        before = [good, Message("t", payload), Message("t", b'{"a":"c"}')]
        first, second, third = stages.run(Stage.INGRESS, before, 1.0, lambda *_: None).messages
        assert first is not None
        assert second is None
        assert third is not None
    (figures,) = stages.counters()
    stages.close()
    letters = [json.loads(message.payload) for message in around.letters]
    assert [(letter["reason"], letter["payload"]) for letter in letters] == [(reason, payload.decode())] * 10
    assert (figures["failed"], figures["dropped"], figures["replaced"]) == (10, 0, 20)
    assert (figures["traps"], figures["state"], figures["breaker"]) == (0, "ready", "closed")
    assert figures["metrics"] == {"undecodable": 10}
    assert not caplog.records


def test_undecodable_that_is_to_pass_is_no_dead_letter() -> None:
    config = {"on_undecodable": "pass", "steps": [{"action": "remove", "path": "a"}]}
    stages = Stages([Entry("r", EGRESS, "rules", ("#",), config, dead_letter=DeadLetter("dead"))])
    stages.surroundings = around = Around()
    broken = Message("t", b"{")
    assert stages.run(Stage.EGRESS, [broken], 1.0, lambda *_: None).messages == [broken]
    stages.close()
    assert around.letters == []


def test_messages_of_an_open_breaker_and_a_missing_module_count(tmp_path: Path) -> None:
    stages = Stages(
        [Entry("none", INGRESS, str(tmp_path / "none.wasm"), ("#",), dead_letter=DeadLetter("dead"))]
    )
    stages.surroundings = around = Around()
    for _ in range(3):
        stages.run(Stage.INGRESS, [Message("t", b"1")], 1.0, lambda *_: None)
    assert [json.loads(m.payload)["reason"] for m in around.letters] == [
        f"{tmp_path / 'none.wasm'}: No such file or directory"
    ] * 3
    stages.close()


def test_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    entry = Entry("r", INGRESS, None, ("#",), dead_letter=DeadLetter("", path, 10_000))
    letters = DeadLetters()
    for number in range(200):
        assert letters.put(entry, [Failed(0, Fields(b"t", b"%04d" % number + bytes(100)), WHY)], 0.0) == []
    letters.close()
    older = path.with_name("dead.jsonl.1")
    assert path.stat().st_size <= 10_000
    assert 0 < older.stat().st_size <= 10_000
    kept = [str(letter["payload"])[:4] for letter in read(older) + read(path)]
    assert kept == [f"{number:04}" for number in range(200 - len(kept), 200)]


def test_file_is_bounded_where_many_fail_at_once(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    entry = Entry("r", INGRESS, None, ("#",), dead_letter=DeadLetter("", path, 10_000))
    letters = DeadLetters()
    failed = [Failed(number, Fields(b"t", b"%04d" % number + bytes(100)), WHY) for number in range(200)]
    letters.put(entry, failed, 0.0)
    letters.close()
    assert path.stat().st_size <= 10_000
    assert path.with_name("dead.jsonl.1").stat().st_size <= 10_000
    assert str(read(path)[-1]["payload"]).startswith("0199")


def test_what_waits_for_a_disk_that_stands_still_is_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "dead.jsonl"
    os.mkfifo(path)  # that nobody reads: who opens it waits
    entry = Entry("r", INGRESS, None, ("#",), dead_letter=DeadLetter("", path, 100 << 20))
    letters = DeadLetters()
    for _ in range(40):
        letters.put(entry, [Failed(0, Fields(b"t", b"x" * (1 << 20)), WHY)], 0.0)
    assert 24 <= letters.dropped <= 26
    assert caplog.text.count("more wait for the disk than there is memory for") == 1
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(len(path.read_bytes())))
    reader.start()
    letters.close()
    reader.join(20)
    assert found[0] > 1 << 20


def test_file_that_cannot_be_written_is_told_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = Entry("r", INGRESS, None, ("#",), dead_letter=DeadLetter("", tmp_path / "none" / "dead"))
    letters = DeadLetters()
    for _ in range(3):
        letters.put(entry, [Failed(0, Fields(b"t", b""), WHY)], 0.0)
    letters.close()
    assert letters.dropped == 3
    assert caplog.text.count("dead letters cannot be written") == 1


RULE = "plugins: {ingress: [{name: r, topics: ['#'], module: rules, config: {steps: []}, dead_letter: %s}]}"


def test_configuration(tmp_path: Path) -> None:
    config = load_text(RULE % "{file: dead.jsonl, max_bytes: 1MiB, topic: dead/r}", folder=tmp_path)
    letter = config.plugins.ingress[0].dead_letter
    assert letter is not None
    assert (letter.topic, letter.file, letter.max_bytes) == ("dead/r", tmp_path / "dead.jsonl", 1 << 20)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{}", "needs `topic`, `file` or both"),
        ("{topic: 'dead/#'}", "not a topic"),
        ("{topic: ''}", "not a topic"),
    ],
)
def test_mistakes(section: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_text(RULE % section)


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        ("text/plain", "the payload is a text by its content type, where paths lead nowhere"),
        ("application/json", "the payload is not JSON, as its content type says"),
        ("application/cbor", "the payload is not CBOR, as its content type says"),
        ("application/x-msgpack", "the payload is not MessagePack, as its content type says"),
        ("", "the payload is of no format, or of more than one"),
    ],
)
def test_why_a_payload_of_any_format_cannot_be_decoded(content_type: str, reason: str) -> None:
    config = {"format": "auto", "steps": [{"action": "remove", "path": "a"}]}
    stages = Stages([Entry("r", INGRESS, "rules", ("#",), config, dead_letter=DeadLetter("dead"))])
    stages.surroundings = around = Around()
    properties = write_bare({Prop.CONTENT_TYPE: content_type}) if content_type else b""
    stages.run(Stage.INGRESS, [Message("t", b"\xc1", properties=properties)], 1.0, lambda *_: None)
    stages.close()
    assert [json.loads(message.payload)["reason"] for message in around.letters] == [reason]
