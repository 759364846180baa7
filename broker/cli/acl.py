"""`geomq acl`: what an access list says."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

import typer

from broker.access.acl import AclError, read_acl
from broker.audit import SYSTEM
from broker.cli.asking import ConfigOption
from broker.cli.common import fail, load_config
from broker.ports import LOCAL, Action, Credentials
from broker.protocol.errors import ProtocolError
from broker.protocol.topics import decode_topic, split_share, validate_filter

app = typer.Typer(help="Access lists.", no_args_is_help=True)

DENIED = 2
"""The exit code of a denial; 1 is for mistakes."""


@app.callback()
def _group() -> None:
    """Access lists."""


@app.command()
def check(
    topic: Annotated[str, typer.Option(help="A topic; a topic filter where the action is subscribe.")],
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", envvar="GEOMQ_ACCESS__ACL", help="The access list, without a configuration."
        ),
    ] = None,
    config: ConfigOption = None,
    user: Annotated[str | None, typer.Option(help="The user name; none: a client without one.")] = None,
    client: Annotated[str, typer.Option(help="The client identifier.")] = "",
    address: Annotated[
        str, typer.Option(help="The client's IP address; local: of a Unix socket.")
    ] = "127.0.0.1",
    listener: Annotated[str, typer.Option(help="The listener's name.")] = "",
    action: Annotated[
        Literal["publish", "subscribe", "receive"], typer.Option(help="What is asked.")
    ] = "publish",
    qos: Annotated[int, typer.Option(help="The quality of service.", min=0, max=2)] = 0,
    retain: Annotated[bool, typer.Option("--retain", help="Whether the message is retained.")] = False,
) -> None:
    """Tell whether a client may do something, and which line says so. Exit code 0: allowed, 2: denied."""
    try:
        acl = read_acl(file if file is not None else _configured(config, listener))
        if action == "subscribe":
            validate_filter(topic)
            topic = split_share(topic)[1]
        else:
            decode_topic(topic.encode())
    except AclError as error:
        fail(str(error))
    except ProtocolError as error:
        fail(f"--topic {topic!r}: {error.detail}")
    if not _is_address(address):
        fail(
            f"--address {address!r}: allowed are an IP address such as 192.0.2.7, and `{LOCAL}` for a Unix socket"
        )
    if action == "publish" and topic.split("/", 1)[0] == "$SYS":
        print(f"denied: {SYSTEM}")
        raise SystemExit(DENIED)
    who = Credentials(client, user, None, address, listener)
    verdict = acl.verdict(who, Action(action), topic, qos, retain)
    word = "allowed by" if verdict.allowed else "denied:" if verdict.rule is None else "denied by"
    print(word, acl.told(verdict))
    raise SystemExit(0 if verdict.allowed else DENIED)


def _configured(config: Path | None, name: str) -> Path:
    """The access list that a configuration has for a listener, or for those that have none of their own."""
    settings = load_config(config)
    access = settings.access
    if name:
        labels = {listener.label: listener for listener in settings.listeners}
        if name not in labels:
            fail(f"--listener {name!r}: allowed are {', '.join(labels)}")
        access = settings.access_of(labels[name])
    if access.acl is None:
        fail(
            f"{settings.section_of(access)}.acl names no access list: who is let in may do everything; or say --file"
        )
    return access.acl


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return text == LOCAL
    return True
