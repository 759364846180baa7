"""`geomq record` and `geomq replay`: messages of a running node in a file, and back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from broker.cli.common import fail
from broker.cli.recording import Recorded, RecordingError, from_lines, to_line
from broker.protocol.errors import ProtocolError
from broker.protocol.topics import decode_topic, validate_filter

if TYPE_CHECKING:
    from broker.cli.mqtt import Address

HostOption = Annotated[str, typer.Option(help="The broker's host.")]
PortOption = Annotated[
    int | None, typer.Option(help="Its port. Default: 1883, with TLS 8883.", min=1, max=65535)
]
UserOption = Annotated[str | None, typer.Option(help="The user name.")]
PasswordOption = Annotated[
    Path | None, typer.Option("--password-file", help="A file whose first line is the password.")
]
TlsOption = Annotated[bool, typer.Option("--tls", help="Connect with TLS.")]
CaOption = Annotated[Path | None, typer.Option("--ca", help="The authority that is trusted; means --tls.")]
OldOption = Annotated[bool, typer.Option("--mqtt-3.1.1", help="Speak MQTT 3.1.1, which has no properties.")]


def record(
    topic: Annotated[list[str], typer.Option("--topic", "-t", help="A topic filter; may be given again.")],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Where to. Default: standard output.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="End after so long.", min=0)] = None,
    count: Annotated[int | None, typer.Option(help="End after so many messages.", min=1)] = None,
    qos: Annotated[int, typer.Option(help="The most that is subscribed with.", min=0, max=2)] = 2,
    host: HostOption = "127.0.0.1",
    port: PortOption = None,
    user: UserOption = None,
    password_file: PasswordOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
    mqtt_3_1_1: OldOption = False,
) -> None:
    """Write the messages that match topic filters to a file, as JSON lines. Ctrl-C ends it."""
    for topic_filter in topic:
        try:
            validate_filter(topic_filter)
        except ProtocolError as error:
            fail(f"--topic {topic_filter!r}: {error.detail}")
    address = _address(host, port, user, password_file, tls or ca is not None, ca, mqtt_3_1_1)
    with _told():
        written = _record(address, topic, qos, file, seconds, count)
    print(f"{written} messages recorded", file=sys.stderr)


def _record(
    address: Address, topics: list[str], qos: int, file: Path | None, seconds: float | None, count: int | None
) -> int:
    from broker.cli.mqtt import Connection

    written = 0

    def heard(message: Recorded) -> None:
        nonlocal written
        if count is None or written < count:
            written += 1
            output.write(to_line(message) + "\n")
            output.flush()

    connection = Connection(address, heard)
    # Not before there is a connection: what an earlier recording left would be gone for nothing.
    with _output(file) as output, _interruption() as interrupted:
        for topic_filter in topics:
            connection.subscribe(topic_filter, qos)
        print("recording, Ctrl-C ends it", file=sys.stderr, flush=True)
        connection.wait(
            float("inf") if seconds is None else seconds,
            lambda: interrupted() or (count is not None and written >= count),
        )
        connection.close()
    return written


def replay(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    speed: Annotated[
        float, typer.Option(help="2 is twice as fast as recorded, 0 without pauses.", min=0)
    ] = 1.0,
    prefix: Annotated[str, typer.Option(help="Put before each topic, such as test/.")] = "",
    host: HostOption = "127.0.0.1",
    port: PortOption = None,
    user: UserOption = None,
    password_file: PasswordOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
    mqtt_3_1_1: OldOption = False,
) -> None:
    """Publish the messages of a recording again, with the pauses between them."""
    if prefix:
        try:
            decode_topic(f"{prefix}x".encode())
        except ProtocolError as error:
            fail(f"--prefix {prefix!r}: {error.detail}")
    address = _address(host, port, user, password_file, tls or ca is not None, ca, mqtt_3_1_1)
    with _told(), file.open(encoding="utf-8") as lines:
        published = _replay(address, from_lines(lines, str(file)), speed, prefix)
    print(f"{published} messages published", file=sys.stderr)


def _replay(address: Address, messages: Iterator[Recorded], speed: float, prefix: str) -> int:
    import time

    from broker.cli.mqtt import Connection

    connection = Connection(address)
    published = 0
    began = first = None
    with _interruption() as interrupted:
        for message in messages:
            if speed and message.time is not None:
                if began is None or first is None:
                    began, first = time.monotonic(), message.time
                connection.wait((message.time - first) / speed - (time.monotonic() - began), interrupted)
            if interrupted():
                break
            connection.publish(message._replace(topic=prefix + message.topic))
            published += 1
        connection.close()
    return published


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: asked between the client's turns, for in the middle of one it would be cut in two."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _address(
    host: str,
    port: int | None,
    user: str | None,
    password_file: Path | None,
    tls: bool,
    ca: Path | None,
    is_old: bool,
) -> Address:
    from broker.cli.mqtt import Address

    password = None
    if password_file is not None:
        if user is None:
            fail("--password-file needs --user")
        try:
            password = password_file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{password_file}: {error}")
    return Address(host, port or (8883 if tls else 1883), 4 if is_old else 5, user, password, tls, ca)


@contextmanager
def _output(file: Path | None) -> Iterator[TextIO]:
    if file is None:
        yield sys.stdout
        return
    # What was published may be secret. A file that was there before keeps its permissions.
    with open(file, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        yield output


@contextmanager
def _told() -> Iterator[None]:
    """End the command with what went wrong."""
    from broker.cli.mqtt import Lost

    try:
        yield
    except (Lost, RecordingError) as error:
        fail(str(error))
    except UnicodeDecodeError:
        fail("the recording is not UTF-8")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
