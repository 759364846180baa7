"""Parts of a configuration in the form in which the broker takes them."""

from __future__ import annotations

from dataclasses import replace

from broker.config import Listener, NodeConfig
from broker.limits import Limits
from broker.net.door import Door
from broker.net.tls import TlsFiles


def node_limits(config: NodeConfig) -> Limits:
    """The bounds that hold where a listener has none of its own."""
    known = dict(config.limits) | dict(config.mqtt)
    return Limits(**{name: known[name] for name in Limits.__slots__})


def listener_limits(listener: Listener, limits: Limits) -> Limits | None:
    """The listener's own bounds over those of the node; None where it has none."""
    own = listener.limits.model_dump(exclude_none=True) if listener.limits is not None else {}
    return replace(limits, **own) if own else None


def listener_door(listener: Listener, limits: Limits) -> Door:
    """What the listener's connections see of it; ``limits`` are the node's."""
    return Door(
        listener.label,
        listener.mount_point,
        listener.max_connections,
        listener.tls.identity if listener.tls is not None else "none",
        listener.type in ("ws", "wss"),
        listener.path,
        tuple(listener.origins),
        listener_limits(listener, limits),
    )


def listener_files(listener: Listener) -> TlsFiles:
    """The certificates of a listener with TLS."""
    tls = listener.tls
    assert tls is not None
    names = {name: (pair.certificate, pair.key) for name, pair in tls.names.items()}
    return TlsFiles(tls.certificate, tls.key, names, tls.ca, tls.crl, tls.client_certificate, tls.minimum)
