"""Short-lived questions to a mesh from outside, as the command line asks them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from edge_mesh.endpoints import parse, why_not
from edge_mesh.history_query import HistoryAnswer, Question, collect
from edge_mesh.keys import Keys
from edge_mesh.link import MeshError, QueryClient, Replies
from edge_mesh.settings import MeshTls
from edge_mesh.status_query import collect_status


async def query_history(
    connect: Sequence[str],
    namespace: str,
    topic_filter: str,
    *,
    last: int | None = None,
    since: float | None = None,
    until: float | None = None,
    timeout: float = 5.0,
    tls: MeshTls | None = None,
) -> HistoryAnswer:
    """The histories of all nodes, through any node's endpoint (``tcp/127.0.0.1:7447``).

    ``since`` and ``until`` are wall-clock seconds. MeshError where no node is reached.
    """
    question = Question(topic_filter, last, since, until).encode()
    replies = await _ask(connect, Keys(namespace).query("*", "history"), question, timeout, tls)
    return collect(replies, last, time.time())


async def query_status(
    connect: Sequence[str], namespace: str, *, timeout: float = 5.0, tls: MeshTls | None = None
) -> dict[str, dict[str, Any]]:
    """What each node says about itself; :class:`edge_mesh.link.MeshError` where no node is reached."""
    return collect_status(await _ask(connect, Keys(namespace).query("*", "status"), b"", timeout, tls))


async def _ask(
    connect: Sequence[str], key: str, question: bytes, timeout: float, tls: MeshTls | None
) -> Replies:
    for endpoint in connect:
        if parse(endpoint) is None:
            raise ValueError(
                f"{endpoint!r} is not an endpoint such as tcp/192.0.2.1:7447, tls/eu.example.org:7447"
            )
    client = QueryClient(asyncio.get_running_loop())
    try:
        await client.open(tuple(connect), tls, timeout)
    except MeshError:
        reasons = await asyncio.to_thread(lambda: [_why_nobody(endpoint, tls) for endpoint in connect])
        raise MeshError(f"no node answers at {'; '.join(reasons)}") from None
    try:
        replies = client.ask(key, question, timeout)
        await replies.finished
        return replies
    finally:
        await client.close()


def _why_nobody(endpoint: str, tls: MeshTls | None) -> str:
    place = parse(endpoint)
    assert place is not None
    if place.scheme in ("tls", "quic") and tls is None:
        return f"{endpoint}: it asks for certificates; name the file of a node that has some (mesh.tls)"
    return f"{endpoint}: {why_not(place, tls) or 'somebody is there, but it is no node of a mesh'}"
