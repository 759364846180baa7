"""What the commands share that ask a mesh from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from broker.cli.common import fail, load_config, named_file

if TYPE_CHECKING:
    from edge_mesh.settings import MeshTls

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The node's YAML file. Default: $GEOMQ_CONFIG, else safe defaults."),
]
ConnectOption = Annotated[
    str | None,
    typer.Option(help="Any node's mesh endpoint. Default: the configuration's, else tcp/127.0.0.1:7447."),
]
NamespaceOption = Annotated[
    str | None, typer.Option(help="The mesh's namespace. Default: the configuration's, else geomq.")
]
TimeoutOption = Annotated[float, typer.Option(help="Seconds to wait for answers.", min=0.1)]

Answer = TypeVar("Answer")


def way_in(
    config: Path | None, connect: str | None, namespace: str | None
) -> tuple[tuple[str, ...], str, MeshTls | None]:
    """(endpoints, namespace, certificates) through which the mesh is asked."""
    from broker.parts import mesh_tls

    settings = load_config(config)
    mesh = settings.mesh
    file = named_file(config)
    if file is not None and not (connect or mesh.enabled):
        fail(f"{file}: the node is in no mesh (mesh.enabled is false): name a node of one with --connect")
    endpoints = (connect,) if connect else tuple(map(_reachable, mesh.listen))
    return endpoints or tuple(mesh.connect), namespace or mesh.namespace, mesh_tls(mesh)


def _reachable(endpoint: str) -> str:
    """Where a node that listens on all interfaces is found from its own machine."""
    return endpoint.replace("/0.0.0.0:", "/127.0.0.1:").replace("/[::]:", "/[::1]:")


def ask(question: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer; ends the command where no node is reached."""
    from edge_mesh.link import MeshError

    try:
        return asyncio.run(question)
    except (MeshError, ValueError) as error:
        fail(str(error))


def ask_local(folder: Path, timeout: float) -> dict[str, dict[str, Any]]:
    """What the node of this machine that has the folder says about itself, by its name; ends the command else."""
    from broker.datafolder import FolderError, owner
    from broker.observe.node_socket import NoAnswer, ask_node

    try:
        owner(folder)
        status = ask_node(folder, "status", timeout)
    except FolderError as error:
        fail(f"{error}: name the node's file with --config, or any node of a mesh with --connect")
    except NoAnswer:
        fail(f"the node with the folder {folder} has ended")
    except OSError as error:
        fail(f"the node with the folder {folder} cannot be asked: {error.strerror or error}")
    return {status["node"]: status}


def ask_status(
    config: Path | None, connect: str | None, namespace: str | None, timeout: float
) -> dict[str, dict[str, Any]]:
    """What each node says about itself, by name; ends the command where none does."""
    from edge_mesh.client import query_status

    endpoints, mesh, tls = way_in(config, connect, namespace)
    nodes = ask(query_status(endpoints, mesh, timeout=timeout, tls=tls))
    if not nodes:
        fail(f"no node of the mesh {mesh!r} answered")
    return nodes
