"""What an operator chooses about the mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edge_mesh.interest import MAX_FILTERS


@dataclass(frozen=True, slots=True)
class MeshTls:
    """Certificates of the links between nodes; paths of PEM files."""

    certificate: Path
    """Shown to those that connect here and, when ``mutual``, to those that this node connects to."""
    key: Path
    """The private key of the certificate."""
    ca: Path
    """The authorities that other nodes' certificates are checked against."""
    mutual: bool = True
    """Whether the connecting side has to show a certificate, too."""
    verify_name: bool = True
    """Whether a certificate must be made out to the host name of the endpoint."""


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """Everything that :class:`edge_mesh.mesh.ZenohMesh` needs to know about its own node."""

    node: str
    """Unique in the mesh; a name as :func:`edge_mesh.keys.check_name` allows."""
    region: str
    data_dir: Path | None = None
    """Where the outbox lies; may be None when ``durability`` is ``memory``."""
    version: str = ""
    """The version of GeoMQ, told to other nodes."""
    namespace: str = "geomq"
    """The first part of every key: meshes with different namespaces do not see each other."""
    mode: str = "router"
    """``router`` relays for others; ``peer`` and ``client`` are for leaves."""
    listen: tuple[str, ...] = ()
    """Zenoh endpoints, such as ``tcp/127.0.0.1:7447``."""
    connect: tuple[str, ...] = ()
    scouting: bool = False
    """Whether to find nodes of the same network by multicast."""
    scouting_address: str = "224.0.0.224:7446"
    retention_seconds: float = 7 * 24 * 3600.0
    """How long messages above QoS 0 wait for a node that is away, and how long such a node is remembered."""
    outbox_bytes: int = 1 << 30
    """The bound of the outbox: beyond it the oldest messages of the longest queue are dropped and counted."""
    outbox_full: str = "drop_oldest"
    """``refuse``: publishers above QoS 0 are refused near the bound where a message has to wait for a node."""
    durability: str = "commit"
    """``commit``: a message is safe once it is on disk. ``memory``: nothing is written, nobody waits."""
    compression: bool = True
    lease_seconds: float = 3.0
    """A link without any sign of life for this long counts as broken."""
    tls: MeshTls | None = None
    max_clock_ahead: float = 3600.0
    """Seconds by which another node's retained messages may be dated ahead of this node's clock."""
    ping_seconds: float = 2.0
    """How often each living node is asked for a sign of life; also bounds how long an interest lags."""
    retry_seconds: float = 1.0
    """How long the durable lane waits for an acknowledgement before it asks for one."""
    window_bytes: int = 4 << 20
    """Bytes on their way to one node and not acknowledged; what is beyond waits in the outbox."""
    max_filters: int = MAX_FILTERS
    """How many topic filters are told to other nodes; what is beyond is widened to prefixes."""

    @property
    def link(self) -> MeshSettings:
        """What the link between the nodes depends on: the settings without those that only bound something."""
        return replace(
            self,
            retention_seconds=0.0,
            outbox_bytes=0,
            outbox_full="drop_oldest",
            max_filters=MAX_FILTERS,
        )

    def __post_init__(self) -> None:
        """ValueError names the setting that is not usable."""
        if self.mode not in ("router", "peer", "client"):
            raise ValueError(f"mode: {self.mode!r} is not one of router, peer, client")
        if self.durability not in ("commit", "memory"):
            raise ValueError(f"durability: {self.durability!r} is not one of commit, memory")
        if self.max_filters < 1:
            raise ValueError("max_filters: at least one filter has to be told")
        if self.outbox_full not in ("drop_oldest", "refuse"):
            raise ValueError(f"outbox_full: {self.outbox_full!r} is not one of drop_oldest, refuse")
        if self.durability == "commit" and self.data_dir is None:
            raise ValueError("data_dir: durability 'commit' needs a folder for the outbox")
