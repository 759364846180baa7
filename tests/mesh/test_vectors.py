"""The test vectors of docs/mesh-protocol.md: what is written there is what is sent and what is read."""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from broker.message import Message, Run
from edge_mesh import control, envelope, relay
from edge_mesh.clock import HybridClock
from edge_mesh.control import Ack, Ping, Pong
from edge_mesh.envelope import ANSWER, DURABLE, LIVE
from edge_mesh.filter_set import digest
from edge_mesh.interest_change import Change, decode_change, join_snapshot, snapshot_parts
from edge_mesh.regions import gateway
from edge_mesh.relay import Target

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "mesh-protocol.md"
ROW = re.compile(r"^\| ([^|`]+) \| `((?:[0-9a-f]{2})+)` \|$", re.MULTILINE)
NOW = 1000.0


def vectors(section: str) -> dict[str, bytes]:
    """Name -> bytes of the table under a heading of the document."""
    _, _, rest = DOCUMENT.read_text().partition(f"\n### {section}\n")
    table = re.split(r"\n##+ ", rest, maxsplit=1)[0]
    return {name: bytes.fromhex(data) for name, data in ROW.findall(table)}


CONTROL: dict[str, Ack | Ping | Pong] = {
    "acknowledgement": Ack(5, 1_099_511_627_777, False),
    "acknowledgement, again": Ack(5, 6, True),
    "ping": Ping(1.5, 255, 7, digest(["a/b", "c/#"])),
    "pong": Pong(1.5, 2.0, "1.2"),
}
RECORDS = {
    "QoS 0": Message("a/b", b"hi", 0),
    "QoS 1": Message("a/b", b"hi", 1),
    "QoS 2": Message("a/b", b"hi", 2),
    "retained": Message("a/b", b"hi", 0, retain=True),
    "properties": Message("a/b", b"hi", 0, properties=b"\x01\x01"),
    "expiry": Message("a/b", b"hi", 0, expires_at=1010.0),
    "stamp": Message("a/b", b"hi", 0, stamp=65537),
    "origin": Message("a/b", b"hi", 0, origin="n2"),
    "all of them": Message("ä", b"", 1, True, b"\x01\x01", 1010.0, "", "n2", 65537),
}
ENVELOPES: dict[str, tuple[int, list[str], dict[str, int]]] = {
    "live": (LIVE, ["QoS 0", "QoS 0"], {}),
    "durable": (DURABLE, ["QoS 1"], {"epoch": 5, "after": 7, "first": 9}),
    "part 2 of an answer of 2": (ANSWER, [], {"after": 2, "first": 2}),
}


def test_control_frames_are_as_documented() -> None:
    documented = vectors("Control frames")
    assert set(documented) == set(CONTROL)
    for name, frame in CONTROL.items():
        assert frame.encode() == documented[name], name
        assert control.decode(documented[name]) == frame, name


def test_records_are_as_documented() -> None:
    documented = vectors("Records")
    assert set(documented) == {*RECORDS, "run"}
    for name, message in RECORDS.items():
        assert envelope.encode_record(message, message.origin) == documented[name], name
        data = envelope.encode(DURABLE, "n1", [documented[name]], NOW, first=1)
        (found,) = envelope.decode_records(data, envelope.decode_header(data), NOW)
        assert fields(found) == {**fields(message), "origin": message.origin or "n1"}, name


def test_a_run_is_as_documented() -> None:
    run = Run("a/b", b"hiho", 2)
    documented = vectors("Records")["run"]
    assert list(envelope.encode_run(run)) == [(documented, 2)]
    data = envelope.encode(LIVE, "n1", [documented], NOW)
    (found,) = envelope.decode_live(data, envelope.decode_header(data), NOW)
    assert [(message.topic, message.payload) for message in found.messages()] == [
        ("a/b", b"hi"),
        ("a/b", b"ho"),
    ]


def test_envelopes_are_as_documented() -> None:
    documented = vectors("Envelopes")
    records = vectors("Records")
    assert set(documented) == set(ENVELOPES)
    for name, (kind, contents, numbers) in ENVELOPES.items():
        data = envelope.encode(kind, "n1", [records[item] for item in contents], NOW, **numbers)
        assert data == documented[name], name
        header = envelope.decode_header(data)
        asked = (numbers.get("epoch", 0), numbers.get("after", 0), numbers.get("first", 0))
        assert header[:7] == (kind, "n1", *asked, len(contents), NOW), name
        assert [found.payload for found in envelope.decode_records(data, header, NOW)] == [b"hi"] * len(
            contents
        )


def test_frames_for_a_gateway_are_as_documented() -> None:
    documented = vectors("Frames for a gateway")
    records = [vectors("Records")[name] for name in ("QoS 1", "QoS 2")]
    data = envelope.encode(DURABLE, "n1", records, NOW, epoch=5, after=0, first=1)
    targets = [Target("n2", 7, 9, 1), Target("n3", 3, 4, 2)]
    frames = {"all to all": [3, 3], "the second to n3 only": [3, 2]}
    assert set(documented) == set(frames)
    for name, masks in frames.items():
        assert relay.encode(data, targets, records, masks) == documented[name], name
        for (node, part), target in zip(relay.decode(documented[name]), targets, strict=True):
            wanted = [record for record, mask in zip(records, masks, strict=True) if mask & target.bit]
            assert node == target.node
            expected = {"epoch": 5, "after": target.after, "first": target.first}
            assert part == envelope.encode(DURABLE, "n1", wanted, NOW, **expected), name


def test_interest_is_as_documented() -> None:
    documented = vectors("Interest's messages")
    change = Change(255, 7, ("a/b",), ("c/#",))
    assert change.encode() == documented["change"]
    assert decode_change(documented["change"]) == change
    snapshot = Change(255, 7, ("a/b", "c/#"), ())
    assert list(snapshot_parts(snapshot)) == [documented["part 1 of a snapshot of 1"]]
    assert join_snapshot([documented["part 1 of a snapshot of 1"]]) == snapshot
    assert digest(["c/#", "a/b"]).to_bytes(8, "little") == documented["digest of a/b and c/#"]


def test_gateway_is_chosen_as_documented() -> None:
    documented = vectors("The gateway")
    assert list(documented) == ["far/n1", "far/n2", "far/n3"]
    for name, weight in documented.items():
        assert blake2b(name.encode(), digest_size=8).digest() == weight, name
    by_weight = sorted(documented, key=documented.__getitem__, reverse=True)
    nodes = [name.removeprefix("far/") for name in by_weight]
    assert nodes == ["n2", "n3", "n1"]
    for gone in range(3):
        assert gateway("far", sorted(nodes[gone:])) == nodes[gone]


def test_stamp_is_as_documented() -> None:
    clock = HybridClock()
    assert clock.stamp(1000.5) == 1_000_500 << 16
    assert clock.stamp(1000.5) == (1_000_500 << 16) + 1


@pytest.mark.parametrize(
    ("name", "at"),
    [("acknowledgement, again", at) for at in range(1, 8)] + [("ping", at) for at in range(1, 8)],
)
def test_unused_bytes_are_zero(name: str, at: int) -> None:
    """What a later version may put there is not taken for what this one means."""
    data = bytearray(vectors("Control frames")[name])
    data[at] += 1
    with pytest.raises(control.ControlError):
        control.decode(bytes(data))


def fields(message: Message) -> dict[str, Any]:
    """All that travels of a message."""
    names = ("topic", "payload", "qos", "retain", "properties", "expires_at", "publisher", "origin", "stamp")
    return {name: getattr(message, name) for name in names}
