"""The configuration as the mesh and the rules take it. What of them is not needed is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker import __version__
from broker.config import NodeConfig, Rule
from broker.config.model import MeshSection
from broker.ports import Stage

if TYPE_CHECKING:
    from edge_mesh.settings import MeshSettings, MeshTls
    from plugins.host.entry import Entry
    from plugins.host.frame import Place


def mesh_settings(config: NodeConfig) -> MeshSettings:
    """The configuration as the mesh takes it."""
    from edge_mesh.settings import MeshSettings

    mesh = config.mesh
    return MeshSettings(
        node=config.node.name,
        region=config.node.region,
        data_dir=config.node.data,
        version=__version__,
        namespace=mesh.namespace,
        mode=mesh.mode,
        listen=tuple(mesh.listen),
        connect=tuple(mesh.connect),
        scouting=mesh.scouting,
        scouting_address=mesh.scouting_address,
        retention_seconds=mesh.retention,
        outbox_bytes=mesh.outbox_bytes,
        max_filters=mesh.max_filters,
        outbox_full=mesh.outbox_full,
        durability=config.durability,
        compression=mesh.compression,
        lease_seconds=mesh.lease,
        tls=mesh_tls(mesh),
    )


def mesh_tls(mesh: MeshSection) -> MeshTls | None:
    """The mesh's certificates as the mesh takes them."""
    from edge_mesh.settings import MeshTls

    tls = mesh.tls
    return MeshTls(tls.certificate, tls.key, tls.ca, tls.mutual, tls.verify_name) if tls else None


def place_of(config: NodeConfig) -> Place:
    """The node as rules are told."""
    from plugins.host.frame import Place

    return Place(config.node.name.encode(), config.node.region.encode())


def rule_entries(config: NodeConfig) -> list[Entry]:
    """The configured rules as the plugin host takes them."""
    plugins = config.plugins
    by_stage = (
        (Stage.INGRESS, plugins.ingress),
        (Stage.EGRESS, plugins.egress),
        (Stage.STORE, plugins.store),
    )
    return [_entry(stage, rule) for stage, rules in by_stage for rule in rules]


def _entry(stage: Stage, rule: Rule) -> Entry:
    from plugins.host.entry import DeadLetter, Entry
    from plugins.host.limits import Limits as PluginLimits

    limits, letter = rule.limits, rule.dead_letter
    return Entry(
        name=rule.name,
        stage=stage,
        module=rule.module,
        topics=tuple(rule.topics),
        config=rule.config,
        limits=PluginLimits(
            fuel_base=limits.fuel_base,
            fuel_per_message=limits.fuel_per_message,
            deadline_ms=round(limits.deadline * 1000),
            memory_bytes=limits.memory,
            output_bytes=limits.output,
            emits=limits.emits,
            state_keys=limits.state_keys,
            state_bytes=limits.state_bytes,
        ),
        on_error=rule.on_error,
        dead_letter=DeadLetter(letter.topic or "", letter.file, letter.max_bytes) if letter else None,
    )
