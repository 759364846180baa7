"""Parts of a configuration in the form in which the broker takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from broker.access.bans import BanTerms
from broker.admission import Admission
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
    own = {name: value for name, value in _own(listener).items() if name in Limits.__slots__}
    return replace(limits, **own) if own else None


def ban_terms(config: NodeConfig) -> tuple[BanTerms, dict[str, BanTerms]]:
    """When who fails to log in is locked out: everywhere, and where a listener says otherwise, by its name."""
    limits = config.limits
    terms = BanTerms(limits.ban_after, limits.ban_window, limits.ban_time)
    by_listener = {}
    for listener in config.listeners:
        own = _own(listener)
        changed = {name: own[f"ban_{name}"] for name in BanTerms._fields if f"ban_{name}" in own}
        if changed:
            by_listener[listener.label] = terms._replace(**changed)
    return terms, by_listener


def _own(listener: Listener) -> dict[str, Any]:
    return listener.limits.model_dump(exclude_none=True) if listener.limits is not None else {}


def listener_door(listener: Listener, limits: Limits, admission: Admission) -> Door:
    """What the listener's connections see of it; ``limits`` and ``admission`` are the node's."""
    own = listener_limits(listener, limits)
    return Door(
        listener.label,
        listener.mount_point,
        listener.max_connections,
        listener.tls.identity if listener.tls is not None else "none",
        listener.type in ("ws", "wss"),
        listener.path,
        tuple(listener.origins),
        own,
        admission.apart(own, _own(listener)) if own is not None else None,
    )


def listener_files(listener: Listener) -> TlsFiles:
    """The certificates of a listener with TLS."""
    tls = listener.tls
    assert tls is not None
    names = {name: (pair.certificate, pair.key) for name, pair in tls.names.items()}
    return TlsFiles(tls.certificate, tls.key, names, tls.ca, tls.crl, tls.client_certificate, tls.minimum)
