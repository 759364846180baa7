"""amqtt's own plugins, unchanged: file, JWT, HTTP, certificate, SQL, LDAP; and how their decisions are waited for."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from argon2 import PasswordHasher
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.access.amqtt_plugins import AmqttPlugins, PluginsError
from broker.access.gate import Gate
from broker.ports import Certificate
from broker.ports import Peer as Origin
from tests.access.test_gate import answered
from tests.engine.harness import Broker, Peer
from tests.net.certificates import Authority
from tests.protocol import wire

TIMEOUT = 10


@asynccontextmanager
async def guarded(plugins: dict[str, Any], **gate: Any) -> AsyncIterator[Broker]:
    """A broker whose gate asks these plugins."""
    loaded = AmqttPlugins(plugins, logins=gate.pop("logins", "all"))
    await loaded.start()
    found = Gate(plugins=loaded, **gate)
    yield Broker(found)
    await found.close()


async def login(broker: Broker, username: str | None, password: bytes | None, **origin: Any) -> int:
    peer = Peer(broker, 5, Origin("192.0.2.1", "test", **origin))
    peer.send(wire.connect(f"id-{username}", 5, username=username, password=password))
    return await answered(peer)


async def until(condition: Any) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.005)


# -- who may connect ---------------------------------------------------------------------------------------


async def test_password_file(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text(f"joe:{PasswordHasher().hash('secret')}\n")
    plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(file)}}
    async with guarded(plugins) as broker:
        assert await login(broker, "joe", b"secret") == 0
        assert await login(broker, "joe", b"wrong") == 0x86
        assert await login(broker, "ann", b"secret") == 0x86
        assert await login(broker, None, None) == 0x87


async def test_jwt() -> None:
    key = "a secret key of thirty-two bytes"
    plugins = {"amqtt.contrib.jwt.UserAuthJwtPlugin": {"secret_key": key, "user_claim": "sub"}}

    def token(claims: dict[str, Any], signed_with: str = key) -> bytes:
        return jwt.encode(claims, signed_with, algorithm="HS256").encode()

    async with guarded(plugins) as broker:
        assert await login(broker, "joe", token({"sub": "joe", "exp": time.time() + 60})) == 0
        assert await login(broker, "joe", token({"sub": "joe", "exp": time.time() - 60})) == 0x86
        assert await login(broker, "joe", token({"sub": "ann"})) == 0x86
        assert await login(broker, "joe", token({"sub": "joe"}, "another key of thirty-two bytes!")) == 0x86
        assert await login(broker, "joe", b"no token") == 0x86


async def test_http(unused_tcp_port: int) -> None:
    asked: list[dict[str, Any]] = []

    async def user(request: web.Request) -> web.Response:
        said = await request.json()
        asked.append(said)
        return web.json_response({"ok": said["password"] == "secret"})

    async def topic(request: web.Request) -> web.Response:
        said = await request.json()
        asked.append(said)
        return web.json_response({"ok": said["topic"].startswith("open")})

    app = web.Application()
    app.router.add_get("/user", user)
    app.router.add_post("/acl", topic)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    config = {"host": "127.0.0.1", "port": unused_tcp_port}
    plugins = {
        "amqtt.contrib.http.UserAuthHttpPlugin": config,
        "amqtt.contrib.http.TopicAuthHttpPlugin": {**config, "request_method": "post"},
    }
    async with guarded(plugins) as broker:
        assert await login(broker, "joe", b"wrong") == 0x86
        peer = broker.peer()
        peer.send(wire.connect("c", 5, username="joe", password=b"secret"))
        assert await answered(peer) == 0
        peer.send(wire.subscribe(1, [("open/#", 1), ("shut", 1)], 5))
        await until(lambda: peer.transport.written)
        assert peer.take()[0].reasons == [1, 0x87]
        peer.send(wire.publish("open/a", b"x", 1, 1, 5), wire.publish("shut", b"x", 1, 2, 5))
        await until(lambda: peer.transport.written)
        await until(lambda: len(asked) >= 7)
        found: list[Any] = []
        await until(lambda: found.extend(peer.take()) or len(found) >= 3)
        assert {(a.kind, a.packet_id, a.reason) for a in found if a.kind == wire.PUBACK} == {
            (wire.PUBACK, 1, 0),
            (wire.PUBACK, 2, 0x87),
        }
        assert [a.topic for a in found if a.kind == wire.PUBLISH] == ["open/a"]
        before = len(asked)
        peer.send(wire.publish("open/a", b"y", 1, 3, 5))
        assert len(peer.take()) == 2, "what was decided is not asked again"
        assert len(asked) == before
        nameless = broker.peer()
        nameless.send(wire.connect("", 5, username="joe", password=b"secret"))
        assert await answered(nameless) == 0
        nameless.send(wire.publish("open/b", b"", 1, 1, 5))
        await until(lambda: len(asked) > before + 1)
        assert asked[before + 1]["client_id"].startswith("geomq-"), "the identifier that it was given"
    await runner.cleanup()


async def test_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    plugins = {"amqtt.contrib.cert.UserAuthCertPlugin": {"uri_domain": "test.example"}}
    uri = x509.UniformResourceIdentifier("spiffe://test.example/device/id-None")
    shown = x509.load_pem_x509_certificate(authority.issue("device", uri).certificate.read_bytes())
    other = x509.load_pem_x509_certificate(
        authority.issue("other", x509.UniformResourceIdentifier("spiffe://else/x")).certificate.read_bytes()
    )
    async with guarded(plugins) as broker:
        good = Certificate(shown.public_bytes(Encoding.DER), None)
        bad = Certificate(other.public_bytes(Encoding.DER), None)
        assert await login(broker, None, None, certificate=good) == 0
        assert await login(broker, None, None, certificate=bad) == 0x87
        assert await login(broker, None, None) == 0x87
        # The plugin fails on these; neither is the node's fault.
        host = authority.issue("host", x509.DNSName("host.example")).certificate.read_bytes()
        der = x509.load_pem_x509_certificate(host).public_bytes(Encoding.DER)
        for unfit in (der, der[:-9]):
            assert await login(broker, None, None, certificate=Certificate(unfit, None)) == 0x87


async def test_sql(tmp_path: Path) -> None:
    from amqtt.contexts import Action
    from amqtt.contrib.auth_db.managers import TopicManager, UserManager

    connection = f"sqlite+aiosqlite:///{tmp_path / 'users.db'}"
    async with UserManager(connection) as users, TopicManager(connection) as topics:
        await users.db_sync()
        await users.create_user_auth("joe", "secret")
        await topics.db_sync()
        await topics.create_topic_auth("joe")
        await topics.add_allowed_topic("joe", "a", Action.SUBSCRIBE)
    plugins = {
        "amqtt.contrib.auth_db.UserAuthDBPlugin": {"connection": connection},
        "amqtt.contrib.auth_db.TopicAuthDBPlugin": {"connection": connection},
    }
    async with guarded(plugins) as broker:
        assert await login(broker, "joe", b"wrong") == 0x86
        assert await login(broker, "ann", b"secret") == 0x86
        peer = broker.peer()
        peer.send(wire.connect("c", 5, username="joe", password=b"secret"))
        assert await answered(peer) == 0
        peer.send(wire.subscribe(1, [("a", 1), ("b", 1)], 5))
        await until(lambda: peer.transport.written)
        assert peer.take()[0].reasons == [1, 0x87]


SLAPD = shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin")

DIRECTORY = """
dn: dc=test
objectClass: dcObject
objectClass: organization
dc: test
o: test

dn: cn=joe,dc=test
objectClass: person
cn: joe
sn: joe
userPassword: secret
"""


@pytest.mark.skipif(SLAPD is None, reason="Debian's slapd is not installed: `make test` does it")
async def test_ldap(tmp_path: Path, unused_tcp_port: int) -> None:
    pytest.importorskip("ldap", reason="python-ldap is not installed: `make test` does it")
    data = tmp_path / "data"
    data.mkdir()
    config = tmp_path / "slapd.conf"
    config.write_text(
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
        f"pidfile {tmp_path}/pid\ndatabase mdb\nsuffix dc=test\nrootdn cn=admin,dc=test\nrootpw admin\n"
        f"directory {data}\n"
    )
    entries = tmp_path / "entries.ldif"
    entries.write_text(DIRECTORY)
    slapadd = Path(str(SLAPD)).with_name("slapadd")
    subprocess.run([slapadd, "-f", config, "-l", entries], check=True, capture_output=True, timeout=30)
    url = f"ldap://127.0.0.1:{unused_tcp_port}"
    slapd = [str(SLAPD), "-f", config, "-h", url, "-d", "0"]
    server = subprocess.Popen(slapd, stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", unused_tcp_port)) == 0

    try:
        await until(listens)
        plugins = {
            "amqtt.contrib.ldap.UserAuthLdapPlugin": {
                "server": url,
                "base_dn": "dc=test",
                "user_attribute": "cn",
                "bind_dn": "cn=admin,dc=test",
                "bind_password": "admin",
            }
        }
        async with guarded(plugins) as broker:
            assert await login(broker, "joe", b"secret") == 0
            assert await login(broker, "joe", b"wrong") == 0x86
            assert await login(broker, "ann", b"secret") == 0x86
            assert await login(broker, "*", b"secret") == 0x86, "would find joe"
            assert await login(broker, "joe)(cn=*", b"secret") == 0x86
            assert await login(broker, "joe", b"") == 0x86
        file = tmp_path / "passwords"
        file.write_text(f"ann:{PasswordHasher().hash('hers')}\n")
        first = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(file)}}
        async with guarded(first | plugins, logins="any") as broker:
            assert await login(broker, "ann", b"hers") == 0, "the file knows her"
            assert await login(broker, "joe", b"secret") == 0, "else the directory is asked"
            assert await login(broker, "joe", b"hers") == 0x86
        async with guarded(plugins) as broker:
            assert await login(broker, "joe", b"secret") == 0
            for _ in range(2):
                server.terminate()
                server.wait(10)
                assert await login(broker, "joe", b"secret") == 0x88
                assert await login(broker, "joe", b"secret") == 0x88
                server = subprocess.Popen(slapd, stderr=subprocess.DEVNULL)
                await until(listens)
                assert await login(broker, "joe", b"secret") == 0, "the directory is back"
                assert await login(broker, "joe", b"wrong") == 0x86
    finally:
        server.terminate()
        server.wait(10)


# -- how they are asked ------------------------------------------------------------------------------------


class Slow(BaseTopicPlugin):
    """Decides when it is told to."""

    @dataclass
    class Config:
        """Nothing to set."""

    go = threading.Event()
    asked: list[tuple[str, str]] = []

    async def topic_filtering(
        self, *, session: Any = None, topic: Any = None, action: Any = None
    ) -> bool | None:
        self.asked.append((str(action), topic))
        await asyncio.get_running_loop().run_in_executor(None, self.go.wait)
        return "no" not in topic


class Open(BaseAuthPlugin):
    """Lets everyone in."""

    @dataclass
    class Config:
        """Nothing to set."""

    async def authenticate(self, *, session: Any) -> bool | None:
        return True


class Broken(Open):
    """Fails."""

    async def authenticate(self, *, session: Any) -> bool | None:
        raise RuntimeError(f"cannot check {session.password}")


class Telltale(Open):
    """Does not start, and says why."""

    @dataclass
    class Config:
        """With a secret."""

        api_token: str

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        raise RuntimeError(f"the token {self.config.api_token!r} is refused")


HERE = "tests.access.test_amqtt_plugins"


async def client(broker: Broker, name: str) -> Peer:
    peer = broker.peer()
    peer.send(wire.connect(name, 5))
    assert await answered(peer) == 0
    return peer


async def test_everything_behind_a_question_waits_for_its_answer() -> None:
    Slow.go.clear()
    async with guarded({f"{HERE}.Open": {}, f"{HERE}.Slow": {}}) as broker:
        peer = await client(broker, "c")
        peer.send(wire.subscribe(1, [("a", 1)], 5), wire.publish("a", b"1", 1, 2, 5), wire.PINGREQ)
        assert peer.transport.paused
        peer.connection.receive(wire.publish("no/a", b"2", 1, 3, 5) + wire.PINGREQ, broker.now)
        assert peer.take() == []
        Slow.go.set()
        found: list[Any] = []
        await until(lambda: found.extend(peer.take()) or len(found) >= 6)
        kinds = [answer.kind for answer in found if answer.kind != wire.PUBLISH]
        assert kinds == [wire.SUBACK, wire.PUBACK, wire.PINGRESP, wire.PUBACK, wire.PINGRESP]
        assert [answer.reason for answer in found if answer.kind == wire.PUBACK] == [0, 0x87]
        assert [answer.payload for answer in found if answer.kind == wire.PUBLISH] == [b"1"]
        assert not peer.transport.paused


async def test_messages_wait_in_order_for_receivers_that_are_undecided() -> None:
    Slow.go.set()
    async with guarded({f"{HERE}.Open": {}, f"{HERE}.Slow": {}}) as broker:
        subscriber, publisher = await client(broker, "s"), await client(broker, "p")
        subscriber.send(wire.subscribe(1, [("#", 1)], 5))
        await until(lambda: subscriber.transport.written)
        subscriber.take()
        for topic in ("x/yes", "x/no"):
            publisher.send(wire.publish(topic, b"0", 1, 1, 5))
            await until(lambda: publisher.transport.written)
            publisher.take()
        heard: list[Any] = []
        await until(lambda: heard.extend(subscriber.take()) or heard)
        assert [message.topic for message in heard] == ["x/yes"]
        # Another session asks anew, and this time the answer takes its time.
        Slow.go.clear()
        late = await client(broker, "late")
        Slow.go.set()
        late.send(wire.subscribe(1, [("#", 1)], 5))
        await until(lambda: late.transport.written)
        late.take()
        Slow.go.clear()
        for payload in (b"1", b"2", b"3"):
            publisher.send(wire.publish("x/yes", payload, 1, 1, 5))
        assert [message.payload for message in subscriber.take()] == [b"1", b"2", b"3"]
        assert late.take() == []
        Slow.go.set()
        waited: list[Any] = []
        await until(lambda: waited.extend(late.take()) or len(waited) >= 3)
        assert [message.payload for message in waited] == [b"1", b"2", b"3"]
        publisher.send(wire.publish("x/yes", b"4", 1, 1, 5))
        assert [message.payload for message in late.take()] == [b"4"], "from now on at once"


class Deaf(Slow):
    """Lets clients send, and hear nothing."""

    async def topic_filtering(
        self, *, session: Any = None, topic: Any = None, action: Any = None
    ) -> bool | None:
        return str(action) != "receive"


async def test_what_a_plugin_lets_nobody_hear_is_counted() -> None:
    async with guarded({f"{HERE}.Open": {}, f"{HERE}.Deaf": {}}) as broker:
        publisher, subscriber = await client(broker, "p"), await client(broker, "s")
        stats = broker.engine.stats
        publisher.send(wire.publish("t", b"kept", 1, 1, 5, retain=True))
        await until(lambda: publisher.transport.written)
        subscriber.send(wire.subscribe(1, [("#", 1)], 5))
        await until(lambda: stats.receive_denied == 1)
        publisher.send(wire.publish("other", b"undecided", 1, 2, 5))
        await until(lambda: stats.receive_denied == 2)
        publisher.send(wire.publish("other", b"decided", 1, 3, 5))
        assert stats.receive_denied == 3
        assert [answer.kind for answer in subscriber.take()] == [wire.SUBACK]


async def test_retained_messages_wait_for_the_answer_too() -> None:
    Slow.go.set()
    async with guarded({f"{HERE}.Open": {}, f"{HERE}.Slow": {}}) as broker:
        publisher = await client(broker, "p")
        for topic in ("yes", "no"):
            publisher.send(wire.publish(topic, b"kept", 1, 1, 5, retain=True))
            await until(lambda: publisher.transport.written)
            publisher.take()
        subscriber = await client(broker, "s")
        subscriber.send(wire.subscribe(1, [("+", 1)], 5))
        found: list[Any] = []
        await until(lambda: found.extend(subscriber.take()) or len(found) >= 2)
        assert [(a.kind, a.topic) for a in found] == [(wire.SUBACK, ""), (wire.PUBLISH, "yes")]


async def test_plugin_that_fails_says_no(caplog: pytest.LogCaptureFixture) -> None:
    async with guarded({f"{HERE}.Broken": {}}) as broker:
        assert await login(broker, "joe", b"hunter2") == 0x88
        assert await login(broker, "joe", b"hunter2") == 0x88
    assert caplog.text.count(f"the plugin {HERE}.Broken fails, which is a no: RuntimeError") == 1, (
        "not each time"
    )
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("plugins", "complaint"),
    [
        ({"nowhere.Plugin": {}}, "nowhere.Plugin"),
        (
            {"amqtt.contrib.jwt.UserAuthJwtPlugin": {"secret": "hunter2"}},
            "secret is not a key; allowed keys: secret_key, user_claim",
        ),
        ({"amqtt.contrib.jwt.UserAuthJwtPlugin": {"secret_key": "hunter2"}}, "user_claim is required"),
        (
            {"amqtt.contrib.http.UserAuthHttpPlugin": {"host": "h", "port": 1, "request_method": "push"}},
            "request_method is 'push': allowed: get, post, put",
        ),
        (
            {"amqtt.contrib.jwt.UserAuthJwtPlugin": {"secret_key": ["hunter2"], "user_claim": "sub"}},
            "secret_key is a list: allowed: str",
        ),
        ({"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": "/missing"}}, "/missing"),
        ({f"{HERE}.Telltale": {"api_token": "hunter2"}}, "'***' is refused"),
        ({"amqtt.session.Session": {}}, "is no plugin"),
    ],
)
async def test_plugin_that_cannot_be_used(plugins: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PluginsError) as caught:
        await AmqttPlugins({f"{HERE}.Open": {}, **plugins}).start()
    assert str(caught.value).startswith(f"{next(iter(plugins))}: "), "it is named"
    assert complaint in str(caught.value)
    assert "hunter2" not in str(caught.value)
