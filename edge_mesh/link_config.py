"""What Zenoh is told when a session is opened, and what its errors mean; pure."""

from __future__ import annotations

from typing import Any

from edge_mesh.settings import MeshSettings, MeshTls


def node_values(settings: MeshSettings) -> dict[str, Any]:
    """For a node's session."""
    values: dict[str, Any] = {
        "mode": settings.mode,
        "listen/endpoints": list(settings.listen),
        "listen/exit_on_failure": True,
        "listen/timeout_ms": 0,
        "connect/endpoints": list(settings.connect),
        # Without time limit and in the background: a node may start long before its neighbours.
        "connect/timeout_ms": -1,
        "connect/exit_on_failure": False,
        "connect/retry": {"period_init_ms": 200, "period_max_ms": 2000, "period_increase_factor": 1.5},
        # Half a second by default in which opening waits for whoever scouting finds; they come all the same.
        "scouting/delay": 0,
        "scouting/multicast/enabled": settings.scouting,
        "scouting/multicast/address": settings.scouting_address,
        # By default routers do not connect to routers that scouting found.
        "scouting/multicast/autoconnect": {
            "router": ["router", "peer"],
            "peer": ["router", "peer"],
            "client": ["router"],
        },
        "scouting/multicast/autoconnect_strategy": {
            "router": {"to_router": "greater-zid", "to_peer": "always"},
            "peer": {"to_router": "always", "to_peer": "greater-zid"},
        },
        "transport/link/tx/lease": int(settings.lease_seconds * 1000),
        # Two batches of 64 KB are the default: too few for bursts of envelopes.
        "transport/link/tx/queue/size/data": 16,
        "transport/link/tx/queue/size/data_low": 8,
        "transport/link/tx/queue/congestion_control/drop/wait_before_drop": 200,
        "transport/link/tx/queue/congestion_control/drop/max_wait_before_drop_fragments": 2000,
        # A slow link is not a broken one; broken ones are found by the lease.
        "transport/link/tx/queue/congestion_control/block/wait_before_close": 30_000_000,
        "transport/unicast/compression/enabled": settings.compression,
        "transport/shared_memory/enabled": False,
    }
    if settings.tls is not None:
        values.update(_tls_values(settings.tls))
    return values


def client_values(connect: tuple[str, ...], tls: MeshTls | None, timeout: float) -> dict[str, Any]:
    """For a short-lived session to ask a node something."""
    values: dict[str, Any] = {
        "mode": "client",
        "connect/endpoints": list(connect),
        "connect/timeout_ms": int(timeout * 1000),
        "connect/exit_on_failure": True,
        "scouting/multicast/enabled": False,
        "transport/shared_memory/enabled": False,
    }
    if tls is not None:
        values.update(_tls_values(tls))
    return values


def _tls_values(tls: MeshTls) -> dict[str, Any]:
    root = "transport/link/tls/"
    return {
        root + "root_ca_certificate": str(tls.ca),
        root + "listen_certificate": str(tls.certificate),
        root + "listen_private_key": str(tls.key),
        root + "connect_certificate": str(tls.certificate),
        root + "connect_private_key": str(tls.key),
        root + "enable_mtls": tls.mutual,
        root + "verify_name_on_connect": tls.verify_name,
    }


def explain(error: str, settings: MeshSettings) -> str:
    """What a failure to open a session means, for an operator."""
    where = ", ".join(settings.listen) or "nothing"
    if "Address already in use" in error:
        return f"the mesh cannot listen on {where}: the port is taken"
    if "Cannot assign requested address" in error:
        return f"the mesh cannot listen on {where}: this machine does not have that address"
    if "Permission denied" in error:
        return f"the mesh cannot listen on {where}: the system does not permit it"
    return f"the mesh cannot start (listen: {where}): {short(error)}"


def short(error: str) -> str:
    """A Zenoh error without the places in its sources."""
    return error.split(" at /", 1)[0].strip().rstrip(".")
