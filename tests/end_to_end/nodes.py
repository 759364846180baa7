"""Nodes as real processes, and MQTT clients that keep account of what was acknowledged and what came."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.ports import free_port
from tests.protocol import wire

ROOT = Path(__file__).resolve().parents[2]
RULES = "rules"


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """The first true value of ``condition``; fails with ``what`` when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


def geomq(
    *arguments: object, environment: dict[str, str] | None = None, timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    """A command, once it has ended, within so many seconds; with this environment only, or that of the tests."""
    command = [sys.executable, "-m", "broker", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def receive(sock: socket.socket, size: int) -> bytes:
    """So many bytes of a node's; fails where it hangs up before."""
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        assert more, "the node hung up"
        data += more
    return data


class NodeProcess:
    """`geomq run` with a configuration of its own, in a folder of its own."""

    def __init__(self, folder: Path, name: str, namespace: str, **sections: Any) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self.mqtt_port = free_port()
        self.mesh_port = free_port()
        mesh = {
            "enabled": True,
            "namespace": namespace,
            "listen": [f"tcp/127.0.0.1:{self.mesh_port}"],
            **sections.pop("mesh", {}),
        }
        self.config = {
            "node": {"name": name, "region": name, "data": "data"},
            "listeners": [{"type": "tcp", "bind": f"127.0.0.1:{self.mqtt_port}"}],
            "mqtt": {"sys_interval": "1s"},
            "mesh": mesh,
            **sections,
        }
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        path = self.folder / "node.yaml"
        path.write_text(yaml.safe_dump(self.config))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GEOMQ_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "broker", "run", "--config", str(path)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_until_it_accepts()

    def wait_until_it_accepts(self) -> None:
        wait_for(self._accepts, f"node {self.name} accepts connections")

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None
        return self._process.pid

    def _accepts(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"node {self.name} ended:\n{self.log.read_text()}")
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.mqtt_port)) == 0

    def kill(self) -> None:
        """SIGKILL: no farewell, no flush."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        if self._process is None or self._process.poll() is not None:
            return 0
        self._process.send_signal(number)
        try:
            return self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
            raise


class Client:
    """A paho client that remembers what it received and what was acknowledged to it."""

    def __init__(
        self,
        node: NodeProcess,
        client_id: str,
        version: int = paho.MQTTv311,
        *,
        clean_session: bool = True,
        will: tuple[str, bytes, int] | None = None,
        on_message: Callable[[Any], None] | None = None,
    ) -> None:
        wire.spoken.add(version)
        self.received: list[tuple[str, bytes]] = []
        self.acknowledged: set[int] = set()
        self.reasons: dict[int, int] = {}
        """The reason codes of these acknowledgements, 0 below version 5."""
        self.disconnected: list[int] = []
        """The reason code of each end of a connection."""
        self._connected = threading.Event()
        self._subscribed = threading.Event()
        self._on_message_also = on_message
        persistent = {} if version == paho.MQTTv5 else {"clean_session": clean_session}
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            reconnect_on_failure=False,
            **persistent,
        )
        if will is not None:
            self._paho.will_set(*will)
        self._paho.max_inflight_messages_set(1000)
        self._paho.on_connect = lambda *_: self._connected.set()
        self._paho.on_subscribe = lambda *_: self._subscribed.set()
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_acknowledged
        self._paho.on_disconnect = lambda _client, _data, _flags, reason, _properties: (
            self.disconnected.append(reason.value)
        )
        self._paho.connect("127.0.0.1", node.mqtt_port, 60)
        self._paho.loop_start()
        assert self._connected.wait(10), "CONNACK"

    def _on_acknowledged(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self.reasons[mid] = reason.value
        self.acknowledged.add(mid)

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        self.received.append((message.topic, bytes(message.payload)))
        if self._on_message_also is not None:
            self._on_message_also(message)

    def subscribe(self, topic_filter: str, qos: int = 0) -> None:
        self._subscribed.clear()
        self._paho.subscribe(topic_filter, qos)
        assert self._subscribed.wait(10), "SUBACK"

    def subscribe_with(self, topic_filter: str, options: SubscribeOptions) -> None:
        self._subscribed.clear()
        self._paho.subscribe(topic_filter, options=options)
        assert self._subscribed.wait(10), "SUBACK"

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, retain: bool = False, properties: Any = None
    ) -> int:
        """The packet identifier under which the acknowledgement will be remembered."""
        return self._paho.publish(topic, payload, qos, retain, properties).mid

    def drop(self) -> None:
        """End the network connection without DISCONNECT."""
        sock = self._paho.socket()
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        self._paho.loop_stop()

    def payloads(self) -> Counter[bytes]:
        return Counter(payload for _, payload in list(self.received))

    def close(self) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()
