"""Ports for those who have to know theirs before they listen."""

from __future__ import annotations

import os
import socket
import sys
from collections import deque

_MOST = 200
"""How many ports are kept at a time: more than any test has in use, and few beside the files a process may open."""

_kept: deque[int] = deque()
"""Descriptors of the sockets that keep them."""


def free_port() -> int:
    """A TCP port of the loopback interface, and this process's own from now on.

    Neither a connection nor another run of tests beside this one is given it: a socket stays bound to it that does
    not listen. Servers may bind it nevertheless, as they set SO_REUSEADDR; until one does, connections are refused.
    Systems other than Linux do not let them: there the port was free a moment ago, no more.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
        if sys.platform == "linux":
            _kept.append(sock.detach())
    if len(_kept) > _MOST:
        os.close(_kept.popleft())
    return port
