"""What all sections of a configuration have in common."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from broker.protocol.errors import ProtocolError
from broker.protocol.topics import validate_filter

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("allowed: 1 to 64 letters, digits, dots, dashes and underscores, the first no sign")
    return value


def _check_filter(value: str) -> str:
    try:
        validate_filter(value)
    except ProtocolError as error:
        raise ValueError(f"not a topic filter: {error.detail}") from None
    return value


def _check_topic(value: str) -> str:
    if not value or len(value.encode()) > 65535 or any(sign in value for sign in "+#\0"):
        raise ValueError("not a topic: 1 to 65535 bytes without +, # and U+0000")
    return value


def _as_path(value: Any) -> Any:
    return Path(value).expanduser() if isinstance(value, str) and value else value


def absolute(path: Path, info: ValidationInfo) -> Path:
    """Paths count from the configuration file's folder: the node may run from anywhere."""
    folder: Path = (info.context or {}).get("folder", Path.cwd())
    return (folder / path).resolve()


Name = Annotated[str, AfterValidator(_check_name)]
TopicFilter = Annotated[str, AfterValidator(_check_filter)]
TopicName = Annotated[str, AfterValidator(_check_topic)]
FilePath = Annotated[Path, BeforeValidator(_as_path), AfterValidator(absolute)]


def split_address(bind: str) -> tuple[str, int]:
    """(host, port) of `host:port` or `[v6]:port`; ValueError for anything else."""
    host, colon, port = bind.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets: [::1]:1883")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("not host:port, such as 127.0.0.1:1883 or [::]:1883")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """An address as it stands in a configuration."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Mistake(NamedTuple):
    """One thing that is wrong: the key's place in the file, and the words for it."""

    key: tuple[str | int, ...]
    text: str


class Mistakes(ValueError):
    """Several mistakes that were found together; the keys count from the file's top."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(mistake.text for mistake in mistakes))
        self.mistakes = mistakes


class Section(BaseModel):
    """Unknown keys are mistakes, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
