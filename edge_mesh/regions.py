"""Which node of a region takes what comes from other regions; pure.

Rendezvous hashing after Thaler and Ravishankar (1998): every node weighs every candidate alike, so all choose the
same one without a word, and when it dies only its region's choice changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def gateway(region: str, nodes: Iterable[str]) -> str | None:
    """The region's gateway among its living ``nodes``; None where there is none."""
    return max(nodes, key=lambda node: (_weight(region, node), node), default=None)


def _weight(region: str, node: str) -> bytes:
    return blake2b(f"{region}/{node}".encode(), digest_size=8).digest()
