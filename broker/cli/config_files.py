"""What is wrong with the files and plugins that a configuration names: for `geomq config check`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.config import NodeConfig
from broker.config.access import AccessSection
from broker.config.base import Mistake
from broker.configured import listener_files
from broker.net.tls import TlsFiles, tls_problems

if TYPE_CHECKING:
    from plugins.host.entry import Entry
    from plugins.host.reasons import PluginError

Key = tuple[str | int, ...]

_LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path, as Linux has it."""


def file_mistakes(config: NodeConfig) -> Iterator[Mistake]:
    """Open every file that is named, and import every plugin; nothing is started, and nobody is asked."""
    for at, listener in enumerate(config.listeners):
        here: Key = ("listeners", at)
        if listener.is_unix:
            yield from _socket((*here, "bind"), listener.address)
        if listener.tls is not None:
            yield from _tls((*here, "tls"), listener_files(listener))
        if listener.access is not None:
            yield from _access((*here, "access"), listener.access)
    yield from _access(("access",), config.access)
    tls = config.mesh.tls
    if tls is not None:
        yield from _tls(("mesh", "tls"), TlsFiles(tls.certificate, tls.key, ca=tls.ca))
    yield from _rules(config)


def _socket(key: Key, path: Any) -> Iterator[Mistake]:
    folder = path.resolve().parent
    if not folder.is_dir():
        yield Mistake(key, f"unix:{path}: {folder} is no folder: a Unix socket needs one that exists")
    if len(str(path).encode()) > _LONGEST_SOCKET:
        yield Mistake(key, f"unix:{path}: allowed: a path of at most {_LONGEST_SOCKET} bytes")


def _tls(key: Key, files: TlsFiles) -> Iterator[Mistake]:
    for part, text in tls_problems(files, datetime.now(UTC)):
        yield Mistake((*key, *part), text)


def _access(key: Key, access: AccessSection) -> Iterator[Mistake]:
    from broker.access.acl import AclError, read_acl
    from broker.access.users import UsersError, read_users

    if access.users is not None:
        try:
            read_users(access.users)
        except UsersError as error:
            yield Mistake((*key, "users"), str(error))
    if access.acl is not None:
        try:
            read_acl(access.acl)
        except AclError as error:
            for line in str(error).splitlines():
                yield Mistake((*key, "acl"), line)
    for name, config in access.amqtt.items():
        yield from _plugin((*key, "amqtt", name), name, config)


def _plugin(key: Key, name: str, config: dict[str, Any] | None) -> Iterator[Mistake]:
    from broker.access.amqtt_loading import PluginsError, check_plugin

    try:
        check_plugin(name, config)
    except PluginsError as error:
        yield Mistake(key, str(error).removeprefix(f"{name}: "))
        return
    for setting, value in (config or {}).items():
        if setting.endswith("_file") and isinstance(value, str):
            try:
                Path(value).open("rb").close()
            except OSError as error:
                yield Mistake(
                    (*key, setting), f"{value}: {error.strerror}: a file that can be read is needed"
                )


def _rules(config: NodeConfig) -> Iterator[Mistake]:
    plugins = config.plugins
    if not (plugins.ingress or plugins.egress or plugins.store):
        return
    from broker.config.rules import mistakes
    from broker.parts import rule_entries
    from plugins.host.entry import STAGE_NAMES
    from plugins.host.loading import Plan
    from plugins.host.reasons import PluginError

    places: dict[str, int] = {}
    for entry in rule_entries(config):
        stage = STAGE_NAMES[entry.stage]
        at = places[stage] = places.get(stage, -1) + 1
        if entry.module == "rules" and mistakes(entry.config):
            continue  # told by their lines already
        if entry.module is None:
            continue
        try:
            Plan(entry, None).make(lambda key: None).close()
        except PluginError as error:
            yield Mistake(("plugins", stage, at, *error.key), in_words(error, entry))


def in_words(error: PluginError, entry: Entry) -> str:
    """What is wrong with an entry, for who is told the key that is to blame beside it."""
    text = str(error)
    if error.key[-1:] == ("key_file",):
        return text.removeprefix("key_file: ")
    # A missing file's path is in the error already.
    return text if text.startswith(f"{entry.path}: ") else f"{entry.module}: {text}"
