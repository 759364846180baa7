"""Mistakes that show only when all listeners are looked at together."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from broker.config.base import Mistake
from broker.config.listeners import Listener

if TYPE_CHECKING:
    from broker.config.model import NodeConfig

_MEANT = (
    "and there are no credentials; name the file of `access.users`, or say `access: {anonymous: everywhere}` "
    "if that is meant"
)


def door_mistakes(config: NodeConfig) -> list[Mistake]:
    """Listeners that are open to strangers or to nobody, that share an address or a name."""
    found = [*_exposed(config), *_same_address(config.listeners)]
    return found or list(_same_name(config.listeners))


def _exposed(config: NodeConfig) -> Iterator[Mistake]:
    for at, listener in enumerate(config.listeners):
        access = config.access_of(listener)
        if config.is_open(listener) or access.asks_for_credentials or _proves(listener):
            continue
        key = ("listeners", at, "bind")
        if access.anonymous == "nowhere" or listener.anonymous is False:
            yield Mistake(key, f"{listener.bind} lets nobody in: name the file of `access.users`")
        elif listener.proxies:
            proxies = ", ".join(listener.proxies)
            yield Mistake(
                key,
                f"{listener.bind} is reached by other machines, through its `proxies` ({proxies}), {_MEANT}",
            )
        else:
            yield Mistake(key, f"{listener.bind} is reached by other machines, {_MEANT}")


def _proves(listener: Listener) -> bool:
    """Whether clients are known by their certificates."""
    return listener.tls is not None and listener.tls.identity != "none"


def _same_address(listeners: list[Listener]) -> Iterator[Mistake]:
    for at, listener in enumerate(listeners):
        for before in range(at):
            if _collide(listeners[before], listener):
                yield Mistake(
                    ("listeners", at, "bind"),
                    f"{listener.bind} is taken by listeners[{before}] ({listeners[before].bind}): "
                    "each listener needs an address or a port of its own",
                )
                break


def _collide(one: Listener, other: Listener) -> bool:
    if one.is_unix or other.is_unix:
        return one.bind == other.bind
    # With a port of 0 the system chooses one that is free.
    return one.port == other.port != 0 and _share(one.host, other.host)


def _share(one: str, other: str) -> bool:
    """Whether two hosts have an address in common; all interfaces have each of their family."""
    for a in _addresses(one):
        for b in _addresses(other):
            if a == b or (a.version == b.version and (a.is_unspecified or b.is_unspecified)):
                return True
    return one == other


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    if host == "localhost":
        return [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        return []


def _same_name(listeners: list[Listener]) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for at, listener in enumerate(listeners):
        if listener.label in first:
            key = ("listeners", at, "name")
            yield Mistake(
                key, f"two listeners are called {listener.label!r}: listeners[{first[listener.label]}], too"
            )
        first.setdefault(listener.label, at)
