"""What a configuration may say. The descriptions are the reference that `geomq config schema` prints."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from broker.config.access import AccessSection
from broker.config.base import (
    FilePath,
    Mistakes,
    Name,
    Section,
    TopicFilter,
    TopicName,
    absolute,
    is_loopback,
    split_address,
)
from broker.config.doors import door_mistakes
from broker.config.limits import LimitsSection
from broker.config.listeners import Listener
from broker.config.units import Duration, Size, WholeSeconds


def _check_endpoint(value: str) -> str:
    protocol, _, address = value.partition("/")
    place = re.fullmatch(r"[^\s/]+:(\d{1,5})(\?.*)?(#.*)?", address)
    if protocol not in ("tcp", "tls", "quic", "ws") or place is None or int(place[1]) > 65535:
        raise ValueError("not a Zenoh endpoint such as tcp/192.0.2.1:7447, tls/eu.example.org:7447")
    return value


def _absolute_module(module: str, info: ValidationInfo) -> str:
    if module == "rules":
        return module
    if "/" not in module and not module.endswith(".wasm"):
        raise ValueError("allowed: `rules`, or the path of a .wasm file")
    return str(absolute(Path(module), info))


def _absolute_keys(value: Any, info: ValidationInfo) -> Any:
    """The paths of secrets, wherever in a module's configuration, count from the configuration file's folder, too."""
    if isinstance(value, dict):
        return {
            name: str(absolute(Path(item).expanduser(), info))
            if name == "key_file" and isinstance(item, str)
            else _absolute_keys(item, info)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_absolute_keys(item, info) for item in value]
    return value


Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
Module = Annotated[str, AfterValidator(_absolute_module)]
ModuleConfig = Annotated[dict[str, Any], AfterValidator(_absolute_keys)]


def _host_name() -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64].lstrip("._-")
    return name or "geomq"


class NodeSection(Section):
    """Who this node is."""

    name: Name = Field(
        default_factory=_host_name, description="Unique in the mesh. Default: the host's name."
    )
    region: Name = Field("default", description="The region that the node stands in.")
    data: FilePath = Field(
        Path("geomq-data"),
        validate_default=True,
        description="The folder of everything that outlives the process; relative to the configuration file.",
    )


class MqttSection(Section):
    """The bounds of the broker; 0 means no limit where the text says so."""

    max_packet_size: Size = Field(
        10 << 20,
        ge=64,
        le=268_435_460,
        description="The largest packet that is accepted. Answer: DISCONNECT 0x95, closed below MQTT 5. "
        "Counter: `limited_max_packet_size`.",
    )
    max_connections: int = Field(
        0,
        ge=0,
        description="Clients at a time; 0: no limit. Answer: CONNACK 0x97, 3 below MQTT 5. "
        "Counter: `limited_max_connections`.",
    )
    connect_timeout: Duration = Field(
        10.0,
        gt=0,
        description="How long a new connection may take until it is let in. Answer: closed. "
        "Counter: `limited_connect_timeout`.",
    )
    keep_alive_max: WholeSeconds = Field(
        0,
        le=65535,
        description="The longest keep-alive granted to MQTT 5 clients; 0: what they ask for. Answer: CONNACK tells "
        "what is granted.",
    )
    receive_maximum: int = Field(
        1024,
        ge=1,
        le=65535,
        description="Unreleased QoS 2 messages (QoS 1 are acknowledged at once) of a client. Answer: DISCONNECT 0x93 "
        "to MQTT 5 clients; those below are not bound. Counter: `limited_receive_maximum`.",
    )
    max_inflight: int = Field(
        1024,
        ge=1,
        le=65535,
        description="Unacknowledged messages towards a client. Answer: further ones wait in its queue.",
    )
    topic_alias_maximum: int = Field(
        64,
        ge=0,
        le=65535,
        description="Topic aliases that a client may set, and at most those set towards a client that allows it. "
        "Answer: DISCONNECT 0x94. Counter: `limited_topic_alias_maximum`.",
    )
    session_expiry_max: WholeSeconds = Field(
        7 * 24 * 3600,
        description="How long the session of an absent client is kept; 0: for ever. Answer: CONNACK tells what is "
        "granted. Counter: `sessions_expired`.",
    )
    queue_max_messages: int = Field(
        10_000,
        ge=0,
        description="Messages that wait for one client. Answer: as `limits.queue_full` says. "
        "Counter: `limited_queue_max_messages`, the messages dropped.",
    )
    queue_max_bytes: Size = Field(
        16 << 20,
        description="Payload bytes that wait for one client. Answer: as `limits.queue_full` says. "
        "Counter: `limited_queue_max_bytes`, the messages dropped.",
    )
    queue_qos0: bool = Field(False, description="Whether QoS 0 messages wait for absent clients, too.")
    retained_max_messages: int = Field(
        100_000,
        ge=0,
        description="Retained messages on this node, but for `$SYS`. Answer: as for `limits.retained_max_bytes`. "
        "Counter: `limited_retained_max_messages`.",
    )
    write_buffer: Size = Field(
        1 << 20,
        description="Bytes that a client does not take before it counts as slow. Answer: QoS 0 is dropped, QoS 1 and 2 "
        "wait in its queue; after `limits.slow_consumer_timeout` it is cut off. Counter: `dropped_slow_consumer`.",
    )
    check_payload_format: bool = Field(
        False,
        description="Whether payloads that are said to be text have to be well-formed UTF-8. "
        "Answer: 0x99, in DISCONNECT at QoS 0. Counter: `payload_refused`.",
    )
    overlapping: Literal["merged", "each"] = Field(
        "merged",
        description="What a client gets whose subscriptions overlap: one copy with the highest QoS and all "
        "subscription identifiers, or one copy for each subscription.",
    )
    response_information: str = Field(
        "",
        max_length=1024,
        description="Told to MQTT 5 clients that ask for it, a topic prefix for answers usually; %c becomes the "
        "client identifier, %u the user name.",
    )
    sys_interval: Duration = Field(10.0, description="How often $SYS topics are published; 0: never.")


class MeshTlsSection(Section):
    """Certificates of the links between nodes (PEM files)."""

    certificate: FilePath = Field(description="Shown to other nodes.")
    key: FilePath = Field(description="The certificate's private key.")
    ca: FilePath = Field(description="The authorities that other nodes' certificates are checked against.")
    mutual: bool = Field(True, description="Whether the connecting side has to show a certificate, too.")
    verify_name: bool = Field(True, description="Whether a certificate must be made out to the host's name.")


class MeshSection(Section):
    """The other nodes."""

    enabled: bool = Field(False, description="Whether this node joins a mesh.")
    namespace: Name = Field("geomq", description="Meshes with different namespaces do not see each other.")
    mode: Literal["router", "peer", "client"] = Field(
        "router", description="router relays for others; peer and client are for leaves."
    )
    listen: list[Endpoint] = Field(
        default_factory=lambda: ["tcp/127.0.0.1:7447"],
        description="Where other nodes connect to. Default: tcp/127.0.0.1:7447, which only this machine reaches.",
    )
    connect: list[Endpoint] = Field(
        default_factory=list,
        description="Nodes to connect to: one that lives is enough, it tells of the others. They may start later.",
    )
    scouting: bool = Field(
        False, description="Whether nodes of the same network find each other by multicast."
    )
    scouting_address: str = Field("224.0.0.224:7446", description="The multicast group and port of scouting.")
    retention: Duration = Field(
        7 * 24 * 3600.0,
        ge=1,
        description="How long messages wait for a node that is away; one that is away for longer is forgotten.",
    )
    outbox_bytes: Size = Field(
        1 << 30, ge=64 << 10, description="The bound of what waits for other nodes on disk."
    )
    max_filters: int = Field(
        10_000,
        ge=1,
        description="How many topic filters other nodes are told; what is beyond is widened to prefixes.",
    )
    outbox_full: Literal["drop_oldest", "refuse"] = Field(
        "drop_oldest",
        description="What happens at the bound. drop_oldest: the oldest messages of the longest queue are dropped. "
        "refuse: from 90 % on, publishers above QoS 0 whose message would wait for a node that is away, or that has "
        "the longest queue, get 0x97 in MQTT 5, and wait below until there is room; the rest is dropped as with "
        "drop_oldest. Counter: "
        "`limited_outbox_full`.",
    )
    lease: Duration = Field(3.0, description="A link without a sign of life for this long counts as broken.")
    compression: bool = Field(True, description="Whether links compress.")
    tls: MeshTlsSection | None = Field(None, description="Certificates for tls and quic endpoints.")

    @property
    def is_alone(self) -> bool:
        """Whether no node of another machine can find this one, and this one looks for none."""
        hosts = (endpoint.partition("/")[2].rpartition(":")[0] for endpoint in self.listen)
        local = all(is_loopback(host.removeprefix("[").removesuffix("]")) for host in hosts)
        return local and not (self.connect or self.scouting)

    @field_validator("scouting_address")
    @classmethod
    def _check_scouting_address(cls, value: str) -> str:
        host, port = split_address(value)
        try:
            multicast = ipaddress.ip_address(host).is_multicast
        except ValueError:
            multicast = False
        if not multicast or not port:
            raise ValueError("not a multicast group and port such as 224.0.0.224:7446")
        return value

    @field_validator("lease")
    @classmethod
    def _check_lease(cls, value: float) -> float:
        if value < 0.5:
            raise ValueError("allowed: 500ms or longer")
        return value

    @model_validator(mode="after")
    def _check_tls(self) -> MeshSection:
        for endpoint in (*self.listen, *self.connect):
            if endpoint.startswith(("tls/", "quic/")) and self.tls is None:
                raise ValueError(f"the endpoint {endpoint} needs the certificates of mesh.tls")
        return self


class RuleLimits(Section):
    """What a rule may use."""

    fuel_base: int = Field(20_000_000, ge=1, description="Instructions for a batch.")
    fuel_per_message: int = Field(2_000_000, ge=0, description="Further instructions for each message in it.")
    deadline: Duration = Field(0.05, description="The time a batch may take.")
    memory: Size = Field(16 << 20, description="The module's memory.")
    output: Size = Field(4 << 20, description="The result of one batch.")
    emits: int = Field(
        1000,
        ge=0,
        description="Messages that one message, or tick, may add. A batch may add as many, and 16 more (or so many, "
        "where that is less) for each further message in it.",
    )
    state_keys: int = Field(10_000, ge=0, description="Values that the module may have remembered.")
    state_bytes: Size = Field(4 << 20, description="The bytes of these, and of their keys.")


class DeadLetterSection(Section):
    """Where messages go, with the reason, that a rule could not work on."""

    topic: TopicName | None = Field(
        None, description="Subscribers of this node, and no other, get them under this topic, as JSON."
    )
    file: FilePath | None = Field(
        None,
        description="A file of JSON lines that only the node's user can read; relative to the configuration file.",
    )
    max_bytes: Size = Field(
        16 << 20, ge=4096, description="How large the file may grow; an older one is kept as FILE.1."
    )

    @model_validator(mode="after")
    def _check_place(self) -> DeadLetterSection:
        if self.topic is None and self.file is None:
            raise ValueError("needs `topic`, `file` or both")
        return self


class Rule(Section):
    """A WebAssembly module attached to topics."""

    name: Name = Field(description="How the rule is called in figures and logs.")
    topics: list[TopicFilter] = Field(min_length=1, description="The topic filters that it is for.")
    module: Module | None = Field(
        None, description="`rules` for the built-in module, or the path of a .wasm file."
    )
    config: ModuleConfig = Field(
        default_factory=dict,
        description="Handed to the module as JSON. A member `key_file` anywhere in it names a file, whose bytes the "
        "module gets as the member `key`, in hexadecimal digits.",
    )
    limits: RuleLimits = Field(default_factory=RuleLimits, description="What the module may use.")
    on_error: Literal["drop", "pass"] = Field("drop", description="What happens to messages when it fails.")
    dead_letter: DeadLetterSection | None = Field(
        None, description="Where these messages go besides, with the reason."
    )


class HistorySection(Section):
    """The local history that `store` rules fill."""

    retention: Duration = Field(7 * 24 * 3600.0, description="How long messages are kept.")
    max_bytes: Size = Field(1 << 30, description="How large the history may grow; the oldest go first.")


class PluginsSection(Section):
    """The rules, in the order in which they run."""

    ingress: list[Rule] = Field(
        default_factory=list, description="On what devices publish, before anyone hears it."
    )
    egress: list[Rule] = Field(
        default_factory=list, description="On what leaves the node; always fails closed."
    )
    store: list[Rule] = Field(default_factory=list, description="What the local history keeps.")
    history: HistorySection = Field(default_factory=HistorySection, description="The local history.")

    @field_validator("ingress", "egress")
    @classmethod
    def _check_modules(cls, value: list[Rule]) -> list[Rule]:
        for rule in value:
            if rule.module is None:
                raise ValueError(f"rule {rule.name!r} needs a module: `rules` or the path of a .wasm file")
        return value

    @field_validator("egress")
    @classmethod
    def _check_closed(cls, value: list[Rule]) -> list[Rule]:
        for rule in value:
            if rule.on_error != "drop":
                raise ValueError(f"rule {rule.name!r}: on_error is always drop at the node's boundary")
        return value

    @model_validator(mode="after")
    def _check_names(self) -> PluginsSection:
        names = [rule.name for rule in (*self.ingress, *self.egress, *self.store)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rules are called {name!r}")
        return self


class LogSection(Section):
    """What is logged, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe level shown."
    )


class NodeConfig(Section):
    """Everything about one node. Every key may be left out."""

    node: NodeSection = Field(default_factory=NodeSection, description="Who this node is.")
    listeners: list[Listener] = Field(
        default_factory=lambda: [Listener()], min_length=1, description="Where devices connect."
    )
    access: AccessSection = Field(default_factory=AccessSection, description="Who may connect.")
    mqtt: MqttSection = Field(default_factory=MqttSection, description="The bounds of the broker.")
    limits: LimitsSection = Field(
        default_factory=LimitsSection, description="What clients may use of the node."
    )
    durability: Literal["commit", "memory"] = Field(
        "commit",
        description="What an acknowledgement to a device says. With commit: sessions, what they are owed, retained "
        "messages and what is for other nodes are on disk. With memory nothing of these is written.",
    )
    synchronous: Literal["full", "normal"] = Field(
        "full",
        description="With full a commit is on the disk itself; with normal it outlives the process, but a power cut "
        "or a crash of the system may undo the last ones, acknowledged or not.",
    )
    mesh: MeshSection = Field(default_factory=MeshSection, description="The other nodes.")
    plugins: PluginsSection = Field(default_factory=PluginsSection, description="The rules.")
    log: LogSection = Field(default_factory=LogSection, description="What is logged.")

    @model_validator(mode="after")
    def _check_doors(self) -> NodeConfig:
        found = door_mistakes(self)
        if found:
            raise Mistakes(found)
        return self

    def access_of(self, listener: Listener) -> AccessSection:
        """Who may connect at a listener, and do what: its own section, or the node's."""
        return listener.access if listener.access is not None else self.access

    def section_of(self, access: AccessSection) -> str:
        """Where an access section stands, for messages: `access`, `listeners[2].access`."""
        for at, listener in enumerate(self.listeners):
            if listener.access is access:
                return f"listeners[{at}].access"
        return "access"

    def is_open(self, listener: Listener) -> bool:
        """Whether clients without credentials are let in at a listener."""
        if listener.anonymous is not None:
            return listener.anonymous
        anonymous = self.access_of(listener).anonymous
        return anonymous == "everywhere" or (anonymous == "loopback" and listener.is_local)
