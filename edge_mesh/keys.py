"""The mesh's part of Zenoh's key space: ``<namespace>/v<protocol version>/...``; pure."""

from __future__ import annotations

from typing import NamedTuple

PROTOCOL_VERSION = 1
"""Nodes of different versions see each other's liveliness tokens and nothing else."""

MAX_NAME = 64

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ALLOWED = _FIRST | frozenset("._-")


def check_name(name: str, what: str) -> str:
    """Return a node's or region's name; ValueError unless it can be one chunk of a key.

    Letters, digits, ``.``, ``_`` and ``-``, beginning with a letter or digit, at most 64 of them.
    """
    if not name or len(name) > MAX_NAME or name[0] not in _FIRST or not _ALLOWED.issuperset(name):
        raise ValueError(
            f"{what}: {name!r} is not a name (1 to {MAX_NAME} of a-z, A-Z, 0-9, '.', '_', '-', "
            "beginning with a letter or digit)"
        )
    return name


class Token(NamedTuple):
    """What a liveliness token's key says."""

    version: int
    region: str
    node: str
    incarnation: int


class Keys:
    """The keys of one namespace. ValueError where the namespace is not one or more names joined by ``/``."""

    def __init__(self, namespace: str) -> None:
        for chunk in namespace.split("/"):
            check_name(chunk, "namespace")
        self._namespace = namespace
        self._root = f"{namespace}/v{PROTOCOL_VERSION}"
        self.all_tokens = f"{namespace}/*/alive/*/*/*"
        self.all_interest = f"{self._root}/interest/*"

    def live(self, receiver: str, sender: str) -> str:
        """The droppable lane."""
        return f"{self._root}/live/{receiver}/{sender}"

    def durable(self, receiver: str, sender: str) -> str:
        """The lane that loses nothing."""
        return f"{self._root}/durable/{receiver}/{sender}"

    def relay(self, gateway: str, sender: str) -> str:
        """What a region's gateway is to hand on."""
        return f"{self._root}/relay/{gateway}/{sender}"

    def control(self, receiver: str, sender: str) -> str:
        """Acknowledgements and pings."""
        return f"{self._root}/control/{receiver}/{sender}"

    def interest(self, node: str) -> str:
        """Where a node tells changes of its interest."""
        return f"{self._root}/interest/{node}"

    def query(self, node: str, what: str) -> str:
        """A node's queryable; ``*`` as the node asks all of them."""
        return f"{self._root}/query/{node}/{what}"

    def token(self, region: str, node: str, incarnation: int) -> str:
        """A node's liveliness token."""
        return f"{self._root}/alive/{region}/{node}/{incarnation:x}"

    def parse_token(self, key: str) -> Token | None:
        """What a token's key says; None where it is not one of this namespace's."""
        prefix = self._namespace + "/"
        if not key.startswith(prefix):
            return None
        chunks = key[len(prefix) :].split("/")
        if len(chunks) != 5 or chunks[1] != "alive" or not chunks[0].startswith("v"):
            return None
        try:
            region, node = check_name(chunks[2], "region"), check_name(chunks[3], "node")
            return Token(int(chunks[0][1:]), region, node, int(chunks[4], 16))
        except ValueError:
            return None

    @staticmethod
    def last_chunk(key: str) -> str:
        """The sender of a lane's key, the node of an interest key."""
        return key[key.rfind("/") + 1 :]

    @staticmethod
    def queried_node(key: str) -> str:
        """The node that answered under a queryable's key; empty where the key is none."""
        chunks = key.rsplit("/", 2)
        return chunks[1] if len(chunks) == 3 else ""
