"""Other bounds for an engine that is at work; pure."""

from __future__ import annotations

from collections.abc import Sequence

from broker.engine import Engine
from broker.limits import Limits


def change_limits(engine: Engine, changes: Sequence[tuple[Limits, Limits]]) -> None:
    """Let new bounds hold; ``changes`` are pairs of (old, new), the node's own first, then those of listeners.

    New connections keep to them, and the queues of sessions that there are. A connection that is open goes on
    as it was told in CONNACK. Retained messages beyond a smaller bound stay; no more are taken.
    """
    new = engine.limits = changes[0][1]
    engine.admission.change(new)
    engine.retained.change_bounds(new.retained_max_messages, new.retained_max_bytes)
    replaced = {id(old): after for old, after in changes}
    for session in engine.roster:
        session.limits = replaced.get(id(session.limits), session.limits)
