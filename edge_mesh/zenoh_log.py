"""Links that the accepting side refuses, as with a wrong certificate, brought from Zenoh's log into this one.

Zenoh tells of them nowhere else, and from Python (1.10) its log goes to file descriptor 1 and cannot be had otherwise:
so that becomes a pipe to this process, which hands on all that it does not understand.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from typing import BinaryIO

from edge_mesh.link import write_log

logger = logging.getLogger("geomq.mesh.link")

_FILTER = "zenoh_link_tls=warn,zenoh_link_commons=warn"
_AGAIN_SECONDS = 600.0
"""Whoever is refused tries again every second or two: that is told so seldom."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_REFUSED = re.compile(r"\bWARN .*?\bzenoh_link_(?:tls|commons::quic)\S*: (?P<what>.*)")
_QUIC_REASON = re.compile(r'reason: b?"(?P<reason>[^"]*)"')
_BAD_CERTIFICATE = "invalid peer certificate: "
_ALERT = "received fatal alert: "


class Refusals:
    """Zenoh's lines, made into few and clear ones."""

    def __init__(self) -> None:
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def hear(self, line: str, now: float) -> tuple[bool, str | None]:
        """Whether a line tells of a refused link, and what there is to say; ``now`` never jumps, in seconds."""
        found = _REFUSED.search(_COLOURS.sub("", line))
        if found is None:
            return False, None
        text = _explain(found["what"])
        told_at = self._told_at.get(text)
        if told_at is not None and now - told_at < _AGAIN_SECONDS:
            self._untold[text] = self._untold.get(text, 0) + 1
            return True, None
        self._told_at[text] = now
        untold = self._untold.pop(text, 0)
        return True, f"{text}; {untold} more times since it was last told" if untold else text


def _explain(what: str) -> str:
    reason = _QUIC_REASON.search(what)
    text = reason["reason"] if reason else what.split(" at /", 1)[0].split(". Hint:", 1)[0].strip()
    if _BAD_CERTIFICATE in text and "ConnectionClosed" not in what:
        return (
            f"a node was refused: its certificate is not accepted here ({text.split(_BAD_CERTIFICATE, 1)[1]})"
        )
    if text.startswith(_ALERT) or "ConnectionClosed" in what:
        return f"a node does not accept the certificate of this one ({text.removeprefix(_ALERT)})"
    if text == "tls handshake eof":
        return "a connection to the mesh ended within its TLS handshake"
    if "InvalidContentType" in text:
        return "a connection to the mesh was refused: it spoke no TLS; nodes have to connect to tls/ here"
    return f"a connection to the mesh was refused: {text}"


def follow_zenoh_log() -> None:
    """Turn this process's standard output into a pipe, for good, and log what Zenoh says there of refused links.

    What else is written there goes where it went before. To be called once, before the mesh is started, in a
    process of which nothing else depends on file descriptor 1.
    """
    try:
        before = os.dup(1)
    except OSError:
        before = os.open(os.devnull, os.O_WRONLY)
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)
    sys.stdout = os.fdopen(os.dup(before), "w", buffering=1)
    write_log(_FILTER)
    lines = os.fdopen(reading, "rb")
    threading.Thread(target=_read, args=(lines, before), name="geomq-zenoh-log", daemon=True).start()


def _read(lines: BinaryIO, before: int) -> None:
    refusals = Refusals()
    for line in lines:
        is_refusal, text = refusals.hear(line.decode(errors="replace"), time.monotonic())
        if text is not None:
            logger.warning("%s", text)
        elif not is_refusal:
            try:
                os.write(before, line)
            except OSError:
                # Whoever read it is gone; what Zenoh has to say of links is still of use.
                continue
