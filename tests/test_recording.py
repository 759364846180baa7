"""The lines of a recording: whatever is written can be read, and mistakes name their line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli.recording import Recorded, RecordingError, from_lines, to_line
from broker.protocol.constants import Prop

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
TOPICS = TEXT.filter(lambda text: text and not {"+", "#"} & set(text))
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        Prop.PAYLOAD_FORMAT_INDICATOR: st.integers(0, 1),
        Prop.MESSAGE_EXPIRY_INTERVAL: st.integers(0, 2**32 - 1),
        Prop.CONTENT_TYPE: TEXT,
        Prop.RESPONSE_TOPIC: TOPICS,
        Prop.CORRELATION_DATA: st.binary(max_size=10),
        Prop.USER_PROPERTY: st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3),
    },
)
MESSAGES = st.builds(
    Recorded,
    TOPICS,
    st.binary(max_size=20) | TEXT.map(str.encode),
    st.integers(0, 2),
    st.booleans(),
    PROPERTIES,
    st.none() | st.integers(0, 4 * 10**12).map(lambda milliseconds: milliseconds / 1000),
    TEXT,
    TEXT,
)


@given(st.lists(MESSAGES, max_size=4))
def test_what_is_written_can_be_read(messages: list[Recorded]) -> None:
    lines = [to_line(message) for message in messages]
    assert all("\n" not in line for line in lines)
    assert list(from_lines(lines, "file")) == messages


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is not JSON: "),
        ("[]", "is not a JSON object"),
        ("{}", "topic: is required"),
        ('{"topic": 5}', "topic: 5: a text is expected"),
        ('{"topic": "a/#"}', "topic: 'a/#': "),
        ('{"topic": "\\ud800"}', "topic: "),
        ('{"topic": "a", "qos": 3}', "qos: 3: allowed: 0, 1, 2"),
        ('{"topic": "a", "qos": true}', "qos: True: a whole number is expected"),
        ('{"topic": "a", "retain": 1}', "retain: 1: true or false is expected"),
        ('{"topic": "a", "quos": 1}', "'quos' is not a key; allowed: client, payload, "),
        ('{"topic": "a", "payload": {}}', "payload: {}: a text is expected"),
        ('{"topic": "a", "payload_base64": "x"}', "payload_base64: 'x': Base64 is expected"),
        ('{"topic": "a", "payload_base64": "", "payload": ""}', "payload: stands beside payload_base64"),
        ('{"topic": "a", "time": "noon"}', "time: 'noon': an ISO time"),
        (
            '{"topic": "a", "properties": {"x": 1}}',
            "properties.x: is not a property; allowed: payload_format",
        ),
        ('{"topic": "a", "properties": {"content_type": 1}}', "properties.content_type: 1: cannot be"),
        (
            '{"topic": "a", "properties": {"response_topic": "#"}}',
            "properties.response_topic: '#': cannot be",
        ),
        ('{"topic": "a", "properties": {"user_property": ["a"]}}', "properties.user_property: "),
        ('{"topic": "a", "properties": {"message_expiry_interval": 4294967296}}', "cannot be"),
        ('{"topic": "a", "properties": {"correlation_data": 7}}', "correlation_data: 7: Base64 is expected"),
    ],
)
def test_mistakes_name_their_line(line: str, words: str) -> None:
    with pytest.raises(RecordingError) as raised:
        list(from_lines(['{"topic": "a"}', "", line], "file"))
    assert str(raised.value).startswith("file:3: ")
    assert words in str(raised.value)
