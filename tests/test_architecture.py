"""The import rules of docs/architecture.md, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("broker", "edge_mesh", "plugins")

PURE = [
    "broker.protocol",
    "broker.message",
    "broker.outlet",
    "broker.session",
    "broker.queue",
    "broker.rights",
    "broker.salvage.log",
    "broker.salvage.pages",
    "broker.store.group",
    "broker.store.gathering",
    "broker.subscriptions",
    "broker.retained",
    "broker.topic_tree",
    "broker.wills",
    "broker.timers",
    "broker.roster",
    "broker.acks",
    "broker.admission",
    "broker.audit",
    "broker.aliases",
    "broker.bucket",
    "broker.connection",
    "broker.flow",
    "broker.foreign",
    "broker.overload",
    "broker.publisher",
    "broker.joint",
    "broker.ruling",
    "broker.ration",
    "broker.refusals",
    "broker.resolver",
    "broker.access.acl",
    "broker.access.bans",
    "broker.handshake",
    "broker.engine",
    "broker.limit_log",
    "broker.limits",
    "broker.new_limits",
    "broker.observe.mesh_topics",
    "broker.cli.mesh_figures",
    "broker.cli.recording",
    "broker.stats",
    "broker.ports",
    "edge_mesh.envelope",
    "edge_mesh.filter_set",
    "edge_mesh.interest",
    "edge_mesh.interest_change",
    "edge_mesh.widening",
    "edge_mesh.keys",
    "edge_mesh.clock",
    "edge_mesh.ledger",
    "edge_mesh.control",
    "edge_mesh.alarms",
    "edge_mesh.rates",
    "edge_mesh.link_config",
    "plugins.host.frame",
    "plugins.host.breaker",
    "plugins.host.limits",
    "plugins.host.reasons",
    "plugins.tools.difference",
    "plugins.tools.effects",
    "plugins.tools.frames",
    "plugins.host.pace",
]
IMPURE = {
    "asyncio",
    "socket",
    "ssl",
    "selectors",
    "threading",
    "subprocess",
    "sqlite3",
    "uvloop",
    "zenoh",
    "wasmtime",
    "ctypes",
    "logging",
    "os",
}
CORE = [name for name in PURE if name.startswith("broker.") and not name.startswith("broker.access.")]


def sources() -> Iterator[tuple[str, Path]]:
    """(module, file) of everything that is shipped."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> set[str]:
    """The absolute names of all modules that a file imports, wherever in it."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


MODULES = dict(sources())


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def importers(library: str) -> set[str]:
    return {name for name, path in MODULES.items() if any(is_in(found, library) for found in imports(path))}


@pytest.mark.parametrize(
    ("library", "only"),
    [("zenoh", "edge_mesh.link"), ("wasmtime", "plugins.host.engine"), ("uvloop", "broker.process")],
)
def test_one_door_to_each_library(library: str, only: str) -> None:
    assert importers(library) == {only}


@pytest.mark.parametrize("package", PURE)
def test_pure_modules_do_no_io(package: str) -> None:
    members = {name: path for name, path in MODULES.items() if is_in(name, package)}
    assert members, f"{package} is gone: this list is out of date"
    for name, path in members.items():
        assert not {found.split(".")[0] for found in imports(path)} & IMPURE, name
        assert not {"time.time", "time.monotonic"} & imports(path), name


def test_protocol_needs_the_standard_library_only() -> None:
    for name, path in MODULES.items():
        if is_in(name, "broker.protocol"):
            for found in imports(path):
                root = found.split(".")[0]
                assert root in sys.stdlib_module_names or is_in(found, "broker.protocol"), f"{name}: {found}"


def test_engine_does_not_know_who_stands_behind_its_ports() -> None:
    outside = (
        "broker.net",
        "broker.config",
        "broker.app",
        "broker.cli",
        "broker.access",
        "edge_mesh",
        "plugins",
    )
    for package in CORE:
        for name, path in MODULES.items():
            if is_in(name, package):
                for found in imports(path):
                    assert not any(is_in(found, other) for other in outside), f"{name} imports {found}"


def test_mesh_and_plugins_know_ports_and_messages_only() -> None:
    allowed = ("broker.ports", "broker.message", "broker.protocol", "broker.salvage", "broker.joint")
    for name, path in MODULES.items():
        if is_in(name, "edge_mesh") or is_in(name, "plugins"):
            for found in imports(path):
                if is_in(found, "broker") and found != "broker":
                    assert any(is_in(found, module) for module in allowed), f"{name} imports {found}"


def test_plugin_host_knows_no_mqtt() -> None:
    for name, path in MODULES.items():
        if is_in(name, "plugins.host"):
            assert not any(is_in(found, "broker") for found in imports(path)), name


def test_only_the_command_line_uses_the_tools() -> None:
    for name, path in MODULES.items():
        if not is_in(name, "broker.cli") and not is_in(name, "plugins.tools"):
            assert not any(is_in(found, "plugins.tools") for found in imports(path)), name


def test_plain_node_does_not_pay_for_what_it_does_not_use() -> None:
    script = "import sys, broker.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    for library in ("zenoh", "wasmtime", "amqtt", "argon2", "scramp", "asn1crypto", "cryptography"):
        assert library not in loaded, library


def test_parts_are_put_together_in_one_place() -> None:
    for name, path in MODULES.items():
        if (
            is_in(name, "broker")
            and name not in ("broker.app", "broker.parts")
            and not is_in(name, "broker.cli")
            and not is_in(name, "broker.demo")
        ):
            for found in imports(path):
                assert not is_in(found, "edge_mesh"), f"{name} imports {found}"
                assert not is_in(found, "plugins"), f"{name} imports {found}"
    for name, path in MODULES.items():
        for found in imports(path):
            crossing = (is_in(name, "edge_mesh") and is_in(found, "plugins")) or (
                is_in(name, "plugins") and is_in(found, "edge_mesh")
            )
            assert not crossing, f"{name} imports {found}"


def test_files_stay_readable() -> None:
    for name, path in MODULES.items():
        assert len(path.read_text().splitlines()) <= 520, name
