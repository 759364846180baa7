"""Messages that rules could not work on: kept with the reason, for whoever looks for it."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from broker.message import Message
from plugins.host.entry import STAGE_NAMES, DeadLetter, Entry, Failed

logger = logging.getLogger("geomq.plugins")

_MAX_WAITING = 16 << 20
"""Bytes of letters that wait for the disk; beyond that they are dropped and counted."""
_CLOSE_SECONDS = 5.0


class DeadLetters:
    """Puts letters into files, on a thread that begins with the first, and makes messages of them."""

    def __init__(self) -> None:
        self.dropped = 0
        self._items: queue.SimpleQueue[tuple[DeadLetter, list[bytes]] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._told = ""

    def put(self, entry: Entry, failed: Sequence[Failed], now: float) -> list[Message]:
        """Keep what failed as the entry says; the messages for its topic. ``now`` is wall-clock seconds.

        May be called from any thread.
        """
        place = entry.dead_letter
        if place is None or not failed:
            return []
        letters = [json.dumps(_letter(entry, one, now), ensure_ascii=False).encode() for one in failed]
        if place.file is not None:
            self._write_soon(place, letters)
        if not place.topic:
            return []
        return [
            Message(place.topic, letter, one.message.qos) for letter, one in zip(letters, failed, strict=True)
        ]

    def close(self) -> None:
        """Write what waits."""
        if self._thread is not None:
            self._items.put(None)
            self._thread.join(_CLOSE_SECONDS)

    def _write_soon(self, place: DeadLetter, letters: list[bytes]) -> None:
        size = sum(map(len, letters))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="geomq-dead-letters", daemon=True)
                self._thread.start()
            if self._waiting and self._waiting + size > _MAX_WAITING:
                self._drop(len(letters), "more wait for the disk than there is memory for")
                return
            self._waiting += size
        self._items.put((place, letters))

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        if self._told != why:
            self._told = why
            logger.error("dead letters cannot be written, and are lost: %s", why)

    # -- the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            place, letters = item
            assert place.file is not None
            try:
                for part in _parts(letters, place.max_bytes):
                    _append(place.file, part, place.max_bytes)
                self._told = ""
            except OSError as error:
                self._drop(len(letters), str(error))
            with self._lock:
                self._waiting -= sum(map(len, letters))


def _parts(letters: Sequence[bytes], most: int) -> Iterator[bytes]:
    """Lines in pieces that a file of this size has room for; one that is larger by itself is a piece of its own."""
    part = bytearray()
    for letter in letters:
        if part and len(part) + len(letter) >= most:
            yield bytes(part)
            part.clear()
        part += letter + b"\n"
    yield bytes(part)


def _append(path: Path, data: bytes, max_bytes: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size + len(data) > max_bytes:
            path.rename(path.with_name(path.name + ".1"))
    # Only the node's user may read what rules are to hide.
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(number, "ab") as file:
        file.write(data)


def _letter(entry: Entry, failed: Failed, now: float) -> dict[str, Any]:
    message = failed.message
    letter = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "rule": entry.name,
        "stage": STAGE_NAMES[entry.stage],
        "reason": failed.reason.text,
        "topic": message.topic.decode(),
        "client": message.client_id.decode(),
        "user": message.user.decode(),
        "qos": message.qos,
        "retain": bool(message.retain),
    }
    try:
        letter["payload"] = message.payload.decode()
    except UnicodeDecodeError:
        letter["payload_base64"] = base64.b64encode(message.payload).decode()
    return letter
