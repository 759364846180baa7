"""A listener as its connections see it."""

from __future__ import annotations

from dataclasses import dataclass

from broker.admission import Admission
from broker.limits import Limits


@dataclass
class Door:
    """What holds for every connection of one listener.

    ``mount_point`` is put before the topics of its clients; ``max_connections`` 0 for no limit; ``identity`` says
    which part of a client certificate is the user's name: none, common_name or alternative_name. ``origins`` are
    the web pages' origins that a browser may come from, none for all. ``limits`` and ``admission`` are None where they
    are the node's.
    """

    name: str
    mount_point: str = ""
    max_connections: int = 0
    identity: str = "none"
    websocket: bool = False
    path: str = "/mqtt"
    origins: tuple[str, ...] = ()
    limits: Limits | None = None
    admission: Admission | None = None
    open: int = 0
    """How many connections there are now."""
