"""A client that publishes at an even rate: `python -m tests.flood.steady TOPIC PORT RATE SECONDS`.

It says "begin" when it does, and how many it has published at the end.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

from tests.protocol import wire


def publish(topic: str, port: int, rate: float, seconds: float) -> int:
    """How many messages, at QoS 0, the broker has taken in so many seconds."""
    published = 0
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(wire.connect("steady", 4))
        assert client.recv(4), "CONNACK"
        print("begin", flush=True)
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            while (left := began + seconds - time.monotonic()) > 0:
                client.settimeout(left)
                while published < (time.monotonic() - began) * rate:
                    client.sendall(wire.publish(topic, b"%040d" % published))
                    published += 1
                time.sleep(1 / rate)
    return published


if __name__ == "__main__":
    print(publish(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
