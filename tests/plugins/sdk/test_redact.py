"""The mask that `make bench` compares languages by does the same in each of them, and in plain Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.host.entry import INGRESS, Entry
from plugins.host.frame import Fields
from plugins.host.pipeline import Rule
from tests.bench.rules import BUILT_IN, TELEMETRY, redacted
from tests.plugins.sdk.toolchains import LANGUAGES, built

LIBRARIES = [language for language in LANGUAGES if language != "wat"]


def payloads(entry: Entry, batch: list[Fields], *reasons: str) -> list[bytes | None]:
    """What becomes of messages; some are rejected for these reasons."""
    rule = Rule(entry)
    try:
        outcome = rule.run(batch, 1e9)
        assert [one.reason.text for one in outcome.failed] == list(reasons)
        assert rule.counts["traps"] == 0
        return [None if one is None else one.payload for one in outcome.messages]
    finally:
        rule.close()


@pytest.mark.parametrize("language", ["built-in", *LIBRARIES])
def test_all_mask_alike(language: str, tmp_path: Path) -> None:
    entry = (
        BUILT_IN
        if language == "built-in"
        else Entry(language, INGRESS, str(built(language, "redact")), ("#",))
    )
    batch = [*TELEMETRY, Fields(b"t", b'{"phone":7}'), Fields(b"t", b'{"speed":7}')]
    masked = payloads(entry, batch)
    assert masked == [redacted(message.payload) for message in batch]
    assert masked[0] is not None
    assert b"Magdalena" not in masked[0]
    assert masked[0].count(b'"***"') == 3
    why = "the payload is not JSON" if entry is BUILT_IN else "the payload is no object that can be read"
    assert payloads(entry, [Fields(b"t", b"not JSON")], why) == [None]
