from __future__ import annotations

import pytest

from broker.protocol.errors import MalformedPacket, ProtocolError
from broker.protocol.topics import decode_topic, decode_utf8, matches, split_share, validate_filter


@pytest.mark.spec("MQTT-4.7.1-1", "MQTT-4.7.2-1")
@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/#", "sport", True),
        ("sport/#", "sport/tennis/player1", True),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/broker", False),
        ("+/broker", "$SYS/broker", False),
        ("$SYS/#", "$SYS/broker", True),
        ("a/b", "a/b/c", False),
    ],
)
def test_matches(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


@pytest.mark.spec("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.3-1")
@pytest.mark.parametrize("text", ["", "sport/tennis#", "sport/tennis/#/ranking", "sport+", "a\0b"])
def test_filters_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        validate_filter(text)


@pytest.mark.spec("MQTT-4.8.2-1", "MQTT-4.8.2-2")
@pytest.mark.parametrize("text", ["$share/", "$share/g", "$share//a", "$share/g+/a", "$share/g/"])
def test_shares_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        split_share(text)


def test_share_split() -> None:
    assert split_share("$share/g/a/#") == ("g", "a/#")
    assert split_share("a/#") == (None, "a/#")


@pytest.mark.spec("MQTT-1.5.4-1", "MQTT-1.5.4-2")
@pytest.mark.parametrize("raw", [b"\xed\xa0\x80", b"\xc0\x80", b"a\0", b"\xff"])
def test_strings_refused(raw: bytes) -> None:
    with pytest.raises(MalformedPacket):
        decode_utf8(raw)


@pytest.mark.spec("MQTT-3.3.2-2")
@pytest.mark.parametrize("raw", [b"", b"a/+", b"#"])
def test_topics_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_topic(raw)
