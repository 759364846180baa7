"""What every node says about itself, asked from anywhere in the mesh."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from edge_mesh.keys import Keys
from edge_mesh.link import Query, Replies

logger = logging.getLogger("geomq.mesh.status")


def answer_status(query: Query, status: Callable[[], dict[str, Any]]) -> None:
    """Answer with the status as JSON."""
    try:
        query.reply(json.dumps(status()).encode())
    except Exception:
        logger.exception("the status could not be told")
        query.fail("the status could not be told")
    finally:
        query.finish()


def collect_status(replies: Replies) -> dict[str, dict[str, Any]]:
    """Node name -> its status; answers that are no JSON objects are left out.

    A node that keeps out of the mesh because another one has its name is told apart: ``NAME (refused)``.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, payload in replies.answers:
        try:
            status = json.loads(payload)
        except (ValueError, RecursionError):
            continue
        if isinstance(status, dict):
            name = Keys.queried_node(key)
            found[f"{name} (refused)" if status.get("refused") else name] = status
    return dict(sorted(found.items()))
