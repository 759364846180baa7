"""The gates that a configuration asks for: for each listener its own, where it has one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from broker.access.anonymous import Anonymous
from broker.access.bans import Bans
from broker.config import NodeConfig
from broker.config.access import AccessSection
from broker.ports import Authority

if TYPE_CHECKING:
    from broker.access.amqtt_plugins import AmqttPlugins
    from broker.access.gate import Gate

logger = logging.getLogger("geomq.access")


class AccessError(Exception):
    """What is wrong with the files or plugins that decide who may connect, in words for the operator."""


async def open_gates(config: NodeConfig, bans: Bans, gates: list[Gate]) -> Authority:
    """The authority; one that never asks where all are open. Each gate in it is put into ``gates``, to be closed.

    AccessError where one cannot be had.
    """
    by_access: dict[int, Authority] = {}
    by_listener: dict[str, Authority] = {}
    for listener in config.listeners:
        access = config.access_of(listener)
        if id(access) not in by_access:
            gate = await _open_gate(config, access, bans)
            by_access[id(access)] = gate or Anonymous()
            gates += [gate] if gate is not None else []
        by_listener[listener.label] = by_access[id(access)]
    if len(by_access) == 1:
        return next(iter(by_access.values()))
    from broker.access.gates import Gates

    return Gates(by_listener)


async def _open_gate(config: NodeConfig, access: AccessSection, bans: Bans) -> Gate | None:
    here = [listener for listener in config.listeners if config.access_of(listener) is access]
    open_to_all = {listener.label for listener in here if config.is_open(listener)}
    for listener in here:
        if listener.label in open_to_all and not listener.is_local:
            logger.warning(
                "ANYBODY who reaches listener %s is let in without credentials, as the configuration says",
                listener.label,
            )
    if len(open_to_all) == len(here) and not (access.asks_for_credentials or access.acl):
        return None
    from broker.access.acl import AclError
    from broker.access.gate import Gate
    from broker.access.users import UsersError

    section = config.section_of(access)
    plugins = await _load_plugins(access, section) if access.amqtt else None
    scope = "" if access is config.access else f" of listener {here[0].label}"
    try:
        return Gate(access.users, access.acl, plugins, open_to_all, bans, access.plugin_cache, scope)
    except UsersError as error:
        raise AccessError(f"{section}.users: {error}") from None
    except AclError as error:
        raise AccessError(f"{section}.acl: {error}") from None


async def _load_plugins(access: AccessSection, section: str) -> AmqttPlugins:
    from broker.access.amqtt_loading import PluginsError
    from broker.access.amqtt_plugins import AmqttPlugins

    plugins = AmqttPlugins(access.amqtt, access.amqtt_logins, access.amqtt_topics)
    try:
        await plugins.start()
    except PluginsError as error:
        raise AccessError(f"{section}.amqtt: {error}") from None
    return plugins
