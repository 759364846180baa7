"""`geomq reload`: another configuration for a node that runs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from broker.cli.asking import ConfigOption
from broker.cli.common import SOMETHING_MISSING, fail, load_config
from broker.datafolder import FolderError, owner
from broker.observe.node_socket import NoAnswer, ask_node

Timeout = Annotated[float, typer.Option(help="Seconds to wait for what the node makes of it.", min=0.1)]


def reload(config: ConfigOption = None, timeout: Timeout = 30.0) -> None:
    """Have the node that runs with this configuration read it again, and print what came of it.

    Exit code 1 where nothing has changed because of a mistake, or no node was told; 3 where a rule is not at work as
    it should be, or the node was told and has not said in time what came of it.
    """
    folder = load_config(config).node.data
    try:
        process = owner(folder)
        _print(ask_node(folder, "reload", timeout))
    except FolderError as error:
        fail(str(error))
    except TimeoutError:
        _unknown(f"the node has not said within {timeout:g} s what came of it")
    except NoAnswer:
        fail("the node has ended before it said what came of it")
    except OSError as error:
        _signal(process, folder, error)


def _print(outcome: dict[str, Any]) -> None:
    node = outcome["node"]
    if outcome["mistakes"]:
        print(*outcome["mistakes"], sep="\n", file=sys.stderr)
        fail(f"the configuration of node {node} stays as it was")
    print(f"node {node} has read {outcome['file'] or 'its environment'} again")
    print(f"changed: {', '.join(outcome['changed']) or 'nothing'}")
    if outcome["waiting"]:
        print(f"only a restart changes {', '.join(outcome['waiting'])}")
    for name, reason in outcome["rules"].items():
        print(f"geomq: rule {name} is not at work as it should be: {reason}", file=sys.stderr)
    if outcome["rules"]:
        raise SystemExit(SOMETHING_MISSING)


def _signal(process: int, folder: Path, asked: OSError) -> NoReturn:
    """A node that starts, or whose folder can have no socket, hears signals all the same."""
    try:
        os.kill(process, signal.SIGHUP)
    except OSError as error:
        fail(f"the node cannot be told: {error.strerror}")
    _unknown(
        f"the node was told by SIGHUP, for its folder {folder} has nobody to ask ({asked.strerror or asked})"
    )


def _unknown(text: str) -> NoReturn:
    print(f"geomq: {text}: its log will tell", file=sys.stderr)
    raise SystemExit(SOMETHING_MISSING)
