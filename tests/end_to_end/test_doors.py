"""A node with every kind of door, as its YAML opens them, and real clients at each."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from paho.mqtt.enums import CallbackAPIVersion

from broker.access.users import make_user, write_users
from broker.observe.node_socket import ask_node
from tests.end_to_end.nodes import NodeProcess, wait_for
from tests.net.certificates import LOCALHOST, Authority
from tests.ports import free_port

PASSWORD = "correct horse battery staple"
ACL = """
deny                  all        secret/#
allow user=joe        all        #
allow user=device-7   publish    devices/%u
allow user=site       all        plant1/#
"""


class Setup:
    """A running node and everything that its clients need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        server = self.authority.issue("server", *LOCALHOST, x509.DNSName("127.0.0.1"))
        self.device = self.authority.issue("device-7")
        self.users = folder / "users"
        write_users(self.users, {name: make_user(PASSWORD) for name in ("joe", "site")})
        self.acl = folder / "acl"
        self.acl.write_text(ACL)
        (folder / "guests").write_text("allow subscribe open/#\n")
        self.socket = Path("/tmp") / f"geomq-{uuid.uuid4().hex[:8]}.sock"
        self.ports = {name: free_port() for name in ("tls", "devices", "ws", "wss", "mounted", "guests")}
        pair = {"certificate": str(server.certificate), "key": str(server.key)}
        cas = {"ca": str(self.authority.certificate)}
        self.node = NodeProcess(folder, "doors", f"doors-{uuid.uuid4().hex[:8]}", mesh={"enabled": False})
        self.node.config["listeners"] += [
            {"name": "tls", "type": "tls", "bind": f"0.0.0.0:{self.ports['tls']}", "tls": pair},
            {
                "name": "devices",
                "type": "tls",
                "bind": f"127.0.0.1:{self.ports['devices']}",
                "tls": {**pair, **cas, "client_certificate": "required", "identity": "common_name"},
            },
            {"name": "ws", "type": "ws", "bind": f"127.0.0.1:{self.ports['ws']}", "path": "/ws"},
            {"name": "wss", "type": "wss", "bind": f"127.0.0.1:{self.ports['wss']}", "tls": pair},
            {
                "name": "guests",
                "bind": f"127.0.0.1:{self.ports['guests']}",
                "access": {"anonymous": "loopback", "acl": "../guests"},
                "limits": {"max_subscriptions": 1, "max_packet_size": 1000, "message_rate": 50},
            },
            {"name": "socket", "bind": f"unix:{self.socket}"},
            {"name": "mounted", "bind": f"127.0.0.1:{self.ports['mounted']}", "mount_point": "plant1/"},
        ]
        self.node.config["access"] = {"users": "../users", "acl": "../acl", "anonymous": "nowhere"}
        self.node.config["limits"] = {"ban_after": 1000}
        self.node.start()


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    found = Setup(tmp_path_factory.mktemp("doors"))
    yield found
    status = json.dumps(ask_node(found.node.folder / "data", "status", 10.0))
    assert found.node.stop() == 0
    for secret in (PASSWORD, "wrong", "hunter2"):
        assert secret not in found.node.log.read_text().replace("wrong password", ""), "no secret is in a log"
        assert secret not in status


class Party:
    """A paho client at one of the doors."""

    def __init__(
        self, setup: Setup, door: str, username: str | None = "joe", password: str = PASSWORD
    ) -> None:
        websocket = door in ("ws", "wss")
        self.heard: list[tuple[str, bytes]] = []
        self.reason: Any = None
        self.acknowledged: dict[int, int] = {}
        self.granted: list[int] = []
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            f"{door}-{uuid.uuid4().hex[:6]}",
            protocol=paho.MQTTv5,
            transport="websockets" if websocket else "unix" if door == "socket" else "tcp",
            reconnect_on_failure=False,
        )
        if username is not None:
            self.paho.username_pw_set(username, password)
        if door == "ws":
            self.paho.ws_set_options("/ws")
        if door in ("tls", "devices", "wss"):
            device = setup.device if door == "devices" else None
            self.paho.tls_set(
                str(setup.authority.certificate),
                str(device.certificate) if device else None,
                str(device.key) if device else None,
            )
        self.paho.on_connect = lambda _c, _d, _f, reason, _p: setattr(self, "reason", reason.value)
        self.paho.on_message = lambda _c, _d, message: self.heard.append((message.topic, message.payload))
        self.paho.on_publish = lambda _c, _d, mid, reason, _p: self.acknowledged.update({mid: reason.value})
        self.paho.on_subscribe = lambda _c, _d, _m, reasons, _p: self.granted.extend(r.value for r in reasons)
        if door == "socket":
            self.paho.connect(str(setup.socket), 1)
        else:
            self.paho.connect("localhost", setup.ports.get(door, setup.node.mqtt_port))
        self.paho.loop_start()
        wait_for(lambda: self.reason is not None, "CONNACK")

    def __enter__(self) -> Party:
        return self

    def __exit__(self, *_: object) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def subscribe(self, topic_filter: str) -> int:
        before = len(self.granted)
        self.paho.subscribe(topic_filter, 1)
        wait_for(lambda: len(self.granted) > before, "SUBACK")
        return self.granted[-1]

    def publish(self, topic: str, payload: bytes) -> int:
        mid = self.paho.publish(topic, payload, 1).mid
        wait_for(lambda: mid in self.acknowledged, "PUBACK")
        return self.acknowledged[mid]


@pytest.mark.parametrize("door", ["plain", "tls", "ws", "wss", "socket"])
def test_every_door_leads_to_the_same_broker(setup: Setup, door: str) -> None:
    topic = f"open/{door}"
    with Party(setup, "plain") as subscriber, Party(setup, door) as publisher:
        assert (subscriber.reason, publisher.reason) == (0, 0)
        assert subscriber.subscribe(topic) == 1
        assert publisher.publish(topic, b"hello") == 0
        wait_for(lambda: subscriber.heard == [(topic, b"hello")], "the message arrives")
        assert publisher.subscribe(f"{topic}/back") == 1
        assert subscriber.publish(f"{topic}/back", b"re") == 0
        wait_for(lambda: publisher.heard == [(f"{topic}/back", b"re")], "the answer arrives")


def test_certificate_is_the_user(setup: Setup) -> None:
    with Party(setup, "plain") as subscriber, Party(setup, "devices", None) as device:
        subscriber.subscribe("devices/#")
        assert device.reason == 0
        assert device.publish("devices/device-7", b"mine") == 0
        assert device.publish("devices/other", b"not mine") == 0x87
        wait_for(lambda: subscriber.heard, "the message arrives")
        assert subscriber.heard == [("devices/device-7", b"mine")]


def test_door_for_devices_asks_for_a_certificate(setup: Setup) -> None:
    context = ssl.create_default_context(cafile=str(setup.authority.certificate))
    client = paho.Client(CallbackAPIVersion.VERSION2, "stranger", protocol=paho.MQTTv5)
    client.tls_set_context(context)
    ended: list[int] = []
    client.on_disconnect = lambda *_: ended.append(1)
    lines = Lines(setup)
    client.connect("localhost", setup.ports["devices"])
    client.loop_start()
    wait_for(lambda: ended, "the handshake fails")
    client.disconnect()
    client.loop_stop()
    words = "TLS: the client showed no certificate, and this listener asks for one"
    wait_for(lines, "a line in the log")
    assert lines()[0] == f"refused: client='' user=- address=127.0.0.1 listener='devices': {words}"


class Lines:
    """What the node has written to its audit log since this was made."""

    def __init__(self, setup: Setup) -> None:
        self._log = setup.node.log
        self._before = len(self._log.read_text())

    def __call__(self) -> list[str]:
        since = self._log.read_text()[self._before :]
        return [line.partition("geomq.audit: ")[2] for line in since.splitlines() if " geomq.audit: " in line]


@pytest.mark.parametrize(
    ("username", "password", "reason", "why"),
    [
        ("joe", "wrong", 0x86, "0x86, wrong password"),
        ("nobody", PASSWORD, 0x86, "0x86, unknown user"),
        (None, "", 0x87, "0x87, no user name, and this listener asks for one"),
    ],
)
def test_who_is_not_known_is_told_so(
    setup: Setup, username: str | None, password: str, reason: int, why: str
) -> None:
    lines = Lines(setup)
    with Party(setup, "tls", username, password) as stranger:
        assert stranger.reason == reason
    wait_for(lines, "a line in the log")
    (line,) = lines()
    who = "-" if username is None else repr(username)
    assert line.startswith("refused: client='tls-")
    assert line.endswith(f"' user={who} address=127.0.0.1 listener='tls': {why}")


def test_denial_names_the_line_of_the_list(setup: Setup) -> None:
    with Party(setup, "tls") as client:
        lines = Lines(setup)
        assert client.publish("secret/x", b"hunter2") == 0x87
        wait_for(lines, "a line in the log")
        (line,) = lines()
    assert line.startswith("denied: client='tls-")
    assert line.endswith(
        "' user='joe' address=127.0.0.1 listener='tls': publish to 'secret/x', QoS 1, retain 0: "
        f"{setup.acl}:2: deny                  all        secret/#"
    )


def test_wrong_protocol_at_a_port_is_named(setup: Setup) -> None:
    for door, spoken, words in (
        ("plain", "https", "spoke TLS to a listener without TLS"),
        ("plain", "http", "spoke HTTP to a listener without WebSocket"),
        ("tls", "http", "TLS: HTTP was spoken to a listener with TLS"),
        ("ws", "https", "spoke TLS to a WebSocket listener without TLS: type ws, not wss"),
        ("ws", "http", "WebSocket: 404, '/' is not '/ws'"),
    ):
        lines = Lines(setup)
        port = setup.ports.get(door, setup.node.mqtt_port)
        with pytest.raises((OSError, HTTPException)):
            urllib.request.urlopen(f"{spoken}://127.0.0.1:{port}/?token=hunter2", timeout=10)
        wait_for(lines, "a line in the log")
        (line,) = lines()
        name = f"127.0.0.1:{port}" if door == "plain" else door
        assert line == f"refused: client='' user=- address=127.0.0.1 listener='{name}': {words}"


def test_mounted_clients_see_their_own_part_only(setup: Setup) -> None:
    with Party(setup, "plain") as watcher, Party(setup, "mounted", "site") as site:
        watcher.subscribe("plant1/#")
        assert site.subscribe("#") == 1
        assert site.publish("line/1", b"running") == 0
        wait_for(lambda: watcher.heard == [("plant1/line/1", b"running")], "the message arrives")
        assert site.heard == [("line/1", b"running")]


def test_door_with_an_access_list_and_limits_of_its_own(setup: Setup) -> None:
    with Party(setup, "plain") as publisher, Party(setup, "guests", None) as guest:
        assert (publisher.reason, guest.reason) == (0, 0)
        assert guest.subscribe("secret/#") == 0x87
        assert guest.subscribe("open/a") == 1
        assert guest.subscribe("open/b") == 0x97
        assert publisher.subscribe("open/b") == 1
        assert publisher.publish("open/a", b"x") == 0
        wait_for(lambda: guest.heard == [("open/a", b"x")], "the message arrives")
        assert guest.publish("open/a", b"x") == 0x87
        ended: list[int] = []
        guest.paho.on_disconnect = lambda _c, _d, _f, reason, _p: ended.append(reason.value)
        guest.paho.publish("open/a", bytes(2000))
        wait_for(lambda: ended, "the packet is too large here")
        assert ended == [0x95]
    with Party(setup, "guests", "joe") as stranger:
        assert stranger.reason == 0x86, "the users of other doors are not known here"


def test_access_list_and_users_change_while_the_node_runs(setup: Setup) -> None:
    with Party(setup, "plain") as client:
        assert client.subscribe("live/#") == 1
        assert client.subscribe("secret/x") == 0x87
        assert client.publish("live/x", b"1") == 0
        setup.acl.write_text("deny user=joe all live/#\n" + ACL)
        wait_for(lambda: client.publish("live/x", b"2") == 0x87, "the new list counts")
        setup.acl.write_text(ACL)
        wait_for(lambda: client.publish("live/x", b"3") in (0, 0x10), "the old list counts again")
        assert b"3" not in [payload for _, payload in client.heard], "the subscription has ended"
    write_users(setup.users, {name: make_user(PASSWORD) for name in ("joe", "site", "new")})

    def let_in() -> bool:
        with Party(setup, "plain", "new") as client:
            return bool(client.reason == 0)

    wait_for(let_in, "the new user is known")


@pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="mosquitto-clients are not installed")
def test_mosquitto_clients_over_tls(setup: Setup) -> None:
    cafile = str(setup.authority.certificate)
    base = ["-h", "localhost", "-p", str(setup.ports["tls"]), "--cafile", cafile, "-u", "joe", "-P", PASSWORD]
    publish = ["mosquitto_pub", *base, "-t", "tls/x", "-q", "1", "-m"]
    assert subprocess.run([*publish, "ready", "-r"], check=False, timeout=20).returncode == 0
    subscribe = ["mosquitto_sub", *base, "-t", "tls/x", "-C", "2", "-W", "20"]
    with subprocess.Popen(subscribe, stdout=subprocess.PIPE, text=True) as subscriber:
        assert subscriber.stdout is not None
        assert subscriber.stdout.readline() == "ready\n", "it is subscribed"
        assert subprocess.run([*publish, "hello"], check=False, timeout=20).returncode == 0
        assert subscriber.communicate(timeout=20)[0] == "hello\n"
