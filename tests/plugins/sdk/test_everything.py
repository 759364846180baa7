"""Each SDK reads every field of a request, and writes every kind of change and effect."""

from __future__ import annotations

import pytest

from plugins.host import frame
from plugins.host.engine import Instance
from plugins.host.frame import (
    ANSWER,
    DROP,
    NO_MESSAGE,
    PASS,
    REJECT,
    REPLACE,
    Effect,
    Fields,
    Place,
    decode_result,
    encode_request,
)
from plugins.host.limits import Limits
from plugins.tools.frames import with_more_fields
from tests.plugins.sdk.toolchains import BY_LIBRARY, built

LANGUAGES = sorted({language for language, _ in BY_LIBRARY})
BATCH = [
    Fields(b"a/0", b"payload 0", b"", b"", 0, False),
    Fields(b"a/1", b"payload 1", b"\x01\x00", b"client 1", 1, False, b"user 1"),
    Fields(b"a/2", b"", b"\x03\x00\x01x", b"client 2", 2, True),
    Fields("ä/3".encode(), "ü".encode(), b"", b"", 0, True, b"user 3"),
    Fields(b"a/4", b"payload 4"),
]
PLACE = Place(b"node-1", b"region-1", -3600)
NOW = 1_769_860_800_123_456_789
BATCH_ID = 2**40 + 5
STATE = {b"long": b"x" * 997 + b"end"}


def instance(language: str) -> Instance:
    code = built(language, "everything").read_bytes()
    return Instance(code, b"{}", Limits(deadline_ms=5000), STATE.get)


def lines(effects: list[Effect]) -> list[tuple[int, bytes, bytes]]:
    return [(effect.message, effect.first, effect.second) for effect in effects if effect.kind == frame.LOG]


@pytest.mark.parametrize("stage", [1, 2, 4, 0])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_field_is_read(language: str, stage: int) -> None:
    running = instance(language)
    for flags in (0, ANSWER):
        request = encode_request(BATCH[:3], NOW, BATCH_ID, stage, PLACE, flags)
        assert_read(running, request, stage, flags)
        assert_read(running, with_more_fields(request), stage, flags)
    running.close()


def assert_read(running: Instance, request: bytes, stage: int, flags: int) -> None:
    """Each field of the frame as the module tells it."""
    answer = running.process(request, 3)
    assert answer is not None
    result = decode_result(answer, BATCH[:3])
    assert result.verdicts == bytes([PASS] * 3)
    assert lines(result.effects) == [
        (NO_MESSAGE, b"info", b"node-1|region-1|-3600|%d|%d|%d|3|" % (NOW, BATCH_ID, stage)),
        (0, b"debug", b"a/0|payload 0||||0|0|%d|" % flags),
        (1, b"debug", b"a/1|payload 1|\x01\x00|client 1|user 1|1|0|%d|" % flags),
        (2, b"debug", b"a/2||\x03\x00\x01x|client 2||2|1|%d|" % flags),
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_can_be_said(language: str) -> None:
    running = instance(language)
    answer = running.process(encode_request(BATCH, NOW, BATCH_ID, 1, PLACE), len(BATCH))
    assert answer is not None
    result = decode_result(answer, BATCH)
    assert result.verdicts == bytes([DROP, REPLACE, REPLACE, PASS, REJECT])
    assert frame.rejections(result)[0] == {4: "why"}
    assert result.changes == {
        1: Fields(b"new/topic", b"new payload", b"\x01\x01", b"client 1", 2, True, b"user 1"),
        2: BATCH[2]._replace(qos=1),
    }
    others = [effect for effect in result.effects if effect.kind != frame.LOG]
    assert [(e.kind, e.message, e.first, e.second, e.number) for e in others] == [
        (frame.EMIT, 1, b"emitted", b"e", 1 | 4),
        (frame.STORE, NO_MESSAGE, b"stored", b"s", 0),
        (frame.STATE_PUT, 2, b"key", b"value", 1500),
        (frame.METRIC, NO_MESSAGE, b"metric", b"", others[3].number),
        (frame.ALERT, 3, b"alert/topic", b"a", 0),
    ]
    assert frame.metric_value(others[3].number) == -2.5
    assert lines(result.effects)[-4:] == [
        (3, b"warning", b"w"),
        (3, b"error", b"e"),
        (4, b"warning", b"why"),
        (NO_MESSAGE, b"info", b"value|1000|end|"),
    ]
    running.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_ticks(language: str) -> None:
    running = instance(language)
    assert running.ticks
    for now in (NOW, NOW + 1):
        answer = running.tick(now)
        assert answer is not None
        result = decode_result(answer, ())
        assert lines(result.effects) == [(NO_MESSAGE, b"info", b"%d|" % now)]
        running.process(encode_request(BATCH, NOW, BATCH_ID, 1, PLACE), len(BATCH))
    running.close()
