"""What a configuration may say about listeners."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from broker.config.access import AccessSection
from broker.config.base import FilePath, Section, is_loopback, split_address
from broker.config.limits import ListenerLimits
from broker.protocol.errors import ProtocolError
from broker.protocol.topics import decode_topic

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_PLAIN = "unix:"


def _check_network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"not an address or a network such as 192.0.2.0/24: {error}") from None
    return value


def _check_mount_point(value: str) -> str:
    if not value:
        return value
    try:
        decode_topic(value.encode())
    except ProtocolError as error:
        raise ValueError(f"not the beginning of a topic: {error.detail}") from None
    if not value.endswith("/") or value.startswith("$"):
        raise ValueError("ends with a slash, such as plant1/, and does not begin with a dollar sign")
    return value


NetworkText = Annotated[str, AfterValidator(_check_network)]


class ServerName(Section):
    """A further certificate, for clients that ask for this server by name."""

    certificate: FilePath = Field(description="PEM, with the chain behind it.")
    key: FilePath = Field(description="The certificate's private key, PEM, not encrypted.")


class ListenerTls(Section):
    """Certificates of a listener (PEM files); read again when they change."""

    certificate: FilePath = Field(description="Shown to clients, with the chain behind it.")
    key: FilePath = Field(description="The certificate's private key, not encrypted.")
    names: dict[str, ServerName] = Field(
        default_factory=dict, description="Certificates for other server names (SNI)."
    )
    minimum: Literal["1.2", "1.3"] = Field("1.2", description="The lowest version of TLS.")
    client_certificate: Literal["none", "optional", "required"] = Field(
        "none", description="Whether clients are asked for a certificate."
    )
    ca: FilePath | None = Field(
        None, description="The authorities that client certificates are checked against."
    )
    crl: FilePath | None = Field(None, description="Revocation lists of these authorities.")
    identity: Literal["none", "common_name", "alternative_name"] = Field(
        "none",
        description="Which part of a client's certificate is its user name; a client that has one needs no password.",
    )

    @model_validator(mode="after")
    def _check_clients(self) -> ListenerTls:
        asked = self.client_certificate != "none"
        if asked and self.ca is None:
            raise ValueError("client_certificate needs `ca`, the authorities to check it against")
        if not asked and (self.crl is not None or self.identity != "none"):
            raise ValueError("crl and identity are about client certificates: say `client_certificate`, too")
        return self


class Listener(Section):
    """Where and how devices are accepted."""

    name: str = Field(
        "", description="How the listener is called in logs and access lists. Default: its address."
    )
    type: Literal["tcp", "tls", "ws", "wss"] = Field(
        "tcp", description="The transport: TCP, TLS, WebSocket, WebSocket over TLS."
    )
    bind: str = Field(
        "127.0.0.1:1883",
        description="host:port (0.0.0.0 for all of IPv4, [::] for all of IPv6), or unix:PATH for a Unix socket.",
    )
    mode: str = Field("0660", pattern="^0?[0-7]{3}$", description="The permissions of a Unix socket, octal.")
    tls: ListenerTls | None = Field(None, description="Certificates, for tls and wss.")
    path: str = Field("/mqtt", pattern="^/", description="Where a WebSocket listener is found.")
    origins: list[str] = Field(
        default_factory=list, description="Origins whose pages may connect by WebSocket; none: all."
    )
    proxies: list[NetworkText] = Field(
        default_factory=list,
        description="Addresses or networks of the proxies in front: all connections come from them, and each begins "
        "with a PROXY protocol header, version 1 or 2.",
    )
    mount_point: Annotated[str, AfterValidator(_check_mount_point)] = Field(
        "", description="Put before all topics of this listener's clients, such as plant1/."
    )
    max_connections: int = Field(
        0,
        ge=0,
        description="Connections at a time; 0: no limit. Answer: closed at once. "
        "Counter: `limited_listener_max_connections`.",
    )
    limits: ListenerLimits | None = Field(None, description="What is otherwise for this listener's clients.")
    access: AccessSection | None = Field(
        None, description="Who may connect here, and do what, instead of the node's `access`."
    )
    anonymous: bool | None = Field(
        None, description="Whether clients need no credentials here, whatever `access.anonymous` says."
    )

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, value: str) -> str:
        if value.startswith(_PLAIN):
            if len(value) == len(_PLAIN):
                raise ValueError("unix: needs the path of the socket, such as unix:/run/geomq.sock")
        else:
            split_address(value)
        return value

    @model_validator(mode="after")
    def _check_tls(self) -> Listener:
        needed = self.type in ("tls", "wss")
        if needed and self.tls is None:
            raise ValueError(f"type {self.type} needs `tls` with certificate and key")
        if not needed and self.tls is not None:
            raise ValueError(
                f"type {self.type} has no TLS: say type: {'wss' if self.type == 'ws' else 'tls'}"
            )
        if self.origins and self.type not in ("ws", "wss"):
            raise ValueError("origins are about WebSocket listeners: type ws or wss")
        if "path" in self.model_fields_set and self.type not in ("ws", "wss"):
            raise ValueError(f"path is about WebSocket listeners: type ws or wss, not {self.type}")
        if "mode" in self.model_fields_set and not self.is_unix:
            raise ValueError(f"mode is about Unix sockets: bind unix:PATH, not {self.bind}")
        if self.is_unix and self.proxies:
            raise ValueError("proxies reach a listener by TCP, not by a Unix socket")
        return self

    @property
    def label(self) -> str:
        """How the listener is called."""
        return self.name or self.bind

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket."""
        return self.bind.startswith(_PLAIN)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the listener, and no proxy brings others."""
        return not self.proxies and (self.is_unix or is_loopback(self.host))

    @property
    def address(self) -> tuple[str, int] | Path:
        """Where to listen; a port of 0 lets the system choose."""
        return Path(self.bind.removeprefix(_PLAIN)) if self.is_unix else split_address(self.bind)

    @property
    def host(self) -> str:
        """The address to listen on, where it is no Unix socket."""
        return split_address(self.bind)[0]

    @property
    def port(self) -> int:
        """The TCP port, where it is no Unix socket."""
        return split_address(self.bind)[1]
