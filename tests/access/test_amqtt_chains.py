"""Several of amqtt's plugins: all have to agree, or any is enough; and who says no is named."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from broker.access.amqtt_plugins import AmqttPlugins, _Plugin, _session
from broker.access.amqtt_special import expired_token, unfit_for_ldap
from broker.access.bans import Bans, BanTerms
from broker.access.gate import Gate
from broker.ports import Action, Credentials
from tests.access.test_amqtt_plugins import login, until
from tests.access.test_gate import answered
from tests.engine.harness import Broker, Notes
from tests.protocol import wire

HERE = "tests.access.test_amqtt_chains"
FILE = "amqtt.plugins.authentication.FileAuthPlugin"
JWT = "amqtt.contrib.jwt.UserAuthJwtPlugin"
KEY = "a secret key of thirty-two bytes"


@asynccontextmanager
async def guarded(plugins: AmqttPlugins) -> AsyncIterator[Broker]:
    await plugins.start()
    gate = Gate(plugins=plugins)
    broker = Broker(gate)
    broker.engine.audit.journal = Notes()
    yield broker
    await gate.close()


def told(broker: Broker) -> list[tuple[str, str]]:
    notes = broker.engine.audit.journal
    assert isinstance(notes, Notes)
    return notes.notes


@pytest.fixture
def file_and_jwt(tmp_path: Path) -> dict[str, dict[str, Any] | None]:
    """joe is in the file; whoever has a token is known by that."""
    file = tmp_path / "passwords"
    file.write_text(f"joe:{PasswordHasher().hash('secret')}\n")
    return {FILE: {"password_file": str(file)}, JWT: {"secret_key": KEY, "user_claim": "sub"}}


def token(name: str) -> bytes:
    return jwt.encode({"sub": name}, KEY, algorithm="HS256").encode()


async def test_any_lets_in_whom_one_of_them_knows(file_and_jwt: dict[str, dict[str, Any] | None]) -> None:
    async with guarded(AmqttPlugins(file_and_jwt, logins="any")) as broker:
        assert await login(broker, "joe", b"secret") == 0, "the file knows joe"
        assert await login(broker, "ann", token("ann")) == 0, "the token is ann's"
        assert await login(broker, "joe", token("joe")) == 0
        assert told(broker) == []
        assert await login(broker, "joe", b"wrong") == 0x86
        assert await login(broker, "ann", b"secret") == 0x86
        assert await login(broker, None, None) == 0x87
        assert [detail for _, detail in told(broker)][:2] == [
            f"0x86, {FILE} says no; {JWT} says no",
            f"0x86, {FILE} says no; {JWT} says no",
        ]


async def test_all_is_the_default(file_and_jwt: dict[str, dict[str, Any] | None]) -> None:
    async with guarded(AmqttPlugins(file_and_jwt)) as broker:
        assert await login(broker, "joe", b"secret") == 0x86
        assert told(broker) == [("refused", f"0x86, {JWT} says no")]


async def test_expired_token_is_told_as_one(caplog: pytest.LogCaptureFixture) -> None:
    async with guarded(AmqttPlugins({JWT: {"secret_key": KEY, "user_claim": "sub"}})) as broker:
        old = jwt.encode({"sub": "joe", "exp": 1_000_000_000}, KEY, algorithm="HS256")
        assert await login(broker, "joe", old.encode()) == 0x86
        assert await login(broker, "joe", jwt.encode({"sub": "ann"}, KEY, algorithm="HS256").encode()) == 0x86
        assert told(broker) == [
            ("refused", f"0x86, {JWT} says no: the token's time was over at 2001-09-09T01:46:40+00:00"),
            ("refused", f"0x86, {JWT} says no"),
        ]
    assert old not in caplog.text


TOPICS_JWT = "amqtt.contrib.jwt.TopicAuthJwtPlugin"
CLAIMS = {"publish_claim": "pub", "subscribe_claim": "sub_to", "receive_claim": "get"}


async def test_answers_for_one_token_are_none_for_the_next() -> None:
    plugins: dict[str, Any] = {
        JWT: {"secret_key": KEY, "user_claim": "sub"},
        TOPICS_JWT: {"secret_key": KEY, **CLAIMS},
    }

    def token(*topics: str) -> bytes:
        return jwt.encode({"sub": "joe", "pub": topics}, KEY, algorithm="HS256").encode()

    async with guarded(AmqttPlugins(plugins)) as broker:
        for password, reason in ((token("a"), 0x10), (token("b"), 0x87), (token("a"), 0x10)):
            peer = broker.peer()
            peer.send(wire.connect("c", 5, username="joe", password=password))
            assert await answered(peer) == 0
            peer.send(wire.publish("a", b"x", 1, 1, 5))
            assert await answered(peer) == reason


async def test_subscription_of_a_token_that_runs_out_ends_and_is_told() -> None:
    plugins: dict[str, Any] = {TOPICS_JWT: {"secret_key": KEY, **CLAIMS}, f"{HERE}.Open": {}}
    loaded = AmqttPlugins(plugins)
    await loaded.start()
    gate = Gate(plugins=loaded, plugin_cache=0.0)
    broker = Broker(gate)
    notes = broker.engine.audit.journal = Notes()
    ends = int(time.time()) + 2
    rights = {"sub": "joe", "exp": ends, "sub_to": ["#"], "get": ["open/#"]}
    subscriber, publisher = broker.peer(), broker.peer()
    token = jwt.encode(rights, KEY, algorithm="HS256").encode()
    subscriber.send(wire.connect("s", 5, username="joe", password=token))
    assert await answered(subscriber) == 0
    subscriber.send(wire.subscribe(1, [("#", 1)], 5))
    await until(lambda: subscriber.transport.written)
    assert subscriber.take()[0].reasons == [1]
    lasting = jwt.encode({"sub": "ann", "pub": ["#"]}, KEY, algorithm="HS256").encode()
    publisher.send(wire.connect("p", 5, username="ann", password=lasting))
    assert await answered(publisher) == 0

    publisher.send(wire.publish("shut/a", b"", 1, 1, 5))
    await until(lambda: broker.engine.stats.receive_denied == 1)
    publisher.send(wire.publish("open/a", b"1", 1, 2, 5))
    await until(lambda: subscriber.transport.written)
    assert [message.payload for message in subscriber.take()] == [b"1"]
    assert notes.notes == [], "a topic that may not be had ends no subscription"

    await until(lambda: time.time() > ends)
    assert gate.refresh()
    broker.engine.rights.changed()
    (session,) = (found for found in broker.engine.roster if found.client_id == "s")
    for number in (3, 4):
        publisher.send(wire.publish("open/a", b"2", 1, number, 5))
    await until(lambda: not session.subscriptions)
    publisher.send(wire.publish("open/b", b"3", 1, 5, 5))
    ((event, detail),) = notes.notes
    assert event == "denied"
    assert detail.startswith(
        f"the subscription that it had to '#', QoS 1: {TOPICS_JWT} says no: the token's time was"
    )
    assert notes.parties[0].client_id == "s"
    assert subscriber.take() == []
    await gate.close()


async def test_members_of_a_shared_subscription_are_asked_about_too() -> None:
    async with guarded(AmqttPlugins({f"{HERE}.Open": {}, f"{HERE}.Outage": {}})) as broker:
        first, second = broker.peer(), broker.peer()
        for name, peer in (("a", first), ("b", second)):
            peer.send(wire.connect(name, 5, username=name, password=b""))
            assert await answered(peer) == 0
            peer.send(wire.subscribe(1, [("$share/g/#", 0)], 5))
            await until(lambda peer=peer: peer.transport.written)
            peer.take()
        for number in range(4):
            first.send(wire.publish("t", bytes([number]), 0, 0, 5))
        heard: dict[int, list[int]] = {1: [], 2: []}

        def all_came() -> bool:
            for number, peer in ((1, first), (2, second)):
                heard[number] += [found.payload[0] for found in peer.take() if found.kind == wire.PUBLISH]
            return sum(map(len, heard.values())) == 4

        await until(all_came)
        assert sorted(heard.values()) == [[0, 2], [1, 3]], "in turn, and each in order"


class Outage(BaseTopicPlugin):
    """Its server may be down, but for publishing."""

    @dataclass
    class Config:
        """Nothing to set."""

    down = False

    async def topic_filtering(
        self, *, session: Any = None, topic: Any = None, action: Any = None
    ) -> bool | None:
        if self.down and str(action) != "publish":
            raise ConnectionError
        return True


async def test_plugin_that_fails_for_a_while_ends_no_subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = AmqttPlugins({f"{HERE}.Open": {}, f"{HERE}.Outage": {}})
    await loaded.start()
    gate = Gate(plugins=loaded, plugin_cache=0.0)
    broker = Broker(gate)
    peer = broker.peer()
    peer.send(wire.connect("c", 5, username="joe", password=b""))
    assert await answered(peer) == 0
    peer.send(wire.subscribe(1, [("#", 1)], 5))
    await until(lambda: peer.transport.written)
    monkeypatch.setattr(Outage, "down", True)
    assert gate.refresh()
    broker.engine.rights.changed()
    peer.take()
    peer.send(wire.publish("a", b"", 1, 1, 5))
    await until(lambda: broker.engine.stats.receive_denied == 1)
    (session,) = broker.engine.roster
    shown = session.credentials
    assert shown is not None
    await until(lambda: gate.may_subscribe(shown, "#", 1) is False)
    monkeypatch.setattr(Outage, "down", False)
    assert gate.refresh()
    broker.engine.rights.changed()
    peer.take()
    peer.send(wire.publish("a", b"it is back", 1, 2, 5))
    heard: list[Any] = []
    await until(lambda: heard.extend(peer.take()) or any(found.payload for found in heard))
    await gate.close()


@given(
    token=st.text(max_size=100)
    | st.binary(max_size=60).map(lambda raw: f"a.{base64.b64encode(raw).decode()}.c")
)
def test_anything_may_stand_in_the_place_of_a_token(token: str) -> None:
    assert isinstance(expired_token(token, 0.0), str)


@pytest.mark.parametrize("expires", ["soon", None, True, [], 1e300, -1e300, float("nan"), 10**400])
def test_tokens_that_expire_at_no_time(expires: object) -> None:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode()
    assert expired_token(f"a.{payload}.c", 0.0) == ""


class Open(BaseAuthPlugin):
    """Lets everyone in."""

    @dataclass
    class Config:
        """Nothing to set."""

    asked: list[str] = []

    async def authenticate(self, *, session: Any) -> bool | None:
        self.asked.append(session.username)
        return True


class Broken(Open):
    """Fails."""

    async def authenticate(self, *, session: Any) -> bool | None:
        raise RuntimeError(session.password)


class Silent(Open):
    """Has no say."""

    async def authenticate(self, *, session: Any) -> bool | None:
        return None


class A(BaseTopicPlugin):
    """Allows topics that begin with its name."""

    @dataclass
    class Config:
        """Nothing to set."""

    async def topic_filtering(
        self, *, session: Any = None, topic: Any = None, action: Any = None
    ) -> bool | None:
        return str(topic).startswith(type(self).__name__)


class AB(A):
    """A part of what A allows."""


async def test_any_asks_in_order_and_survives_one_that_fails() -> None:
    Open.asked.clear()
    plugins: dict[str, dict[str, Any] | None] = {
        f"{HERE}.Silent": {},
        f"{HERE}.Broken": None,
        f"{HERE}.Open": {},
    }
    async with guarded(AmqttPlugins(plugins, logins="any")) as broker:
        assert await login(broker, "joe", b"hunter2") == 0
        assert Open.asked == ["joe"]
    async with guarded(AmqttPlugins(dict(reversed(plugins.items())), logins="any")) as broker:
        assert await login(broker, "ann", b"x") == 0
        assert Open.asked == ["joe", "ann"]
    async with guarded(AmqttPlugins(plugins)) as broker:
        assert await login(broker, "joe", b"hunter2") == 0x88
        assert told(broker) == [("refused", f"0x88, {HERE}.Broken failed: RuntimeError")]
    async with guarded(AmqttPlugins({f"{HERE}.Silent": {}})) as broker:
        assert await login(broker, "joe", b"x") == 0x86
        assert told(broker) == [("refused", f"0x86, no plugin knows the client: {HERE}.Silent")]


class No(Open):
    """Lets nobody in."""

    async def authenticate(self, *, session: Any) -> bool | None:
        return False


@pytest.mark.parametrize("need", ["all", "any"])
async def test_nobody_is_locked_out_because_a_plugin_fails(need: Any) -> None:
    for names, reasons in ((["Broken"], [0x88] * 3), (["Broken", "No"], [0x86, 0x86, 0x8A])):
        plugins = AmqttPlugins({f"{HERE}.{name}": {} for name in names}, logins=need)
        await plugins.start()
        gate = Gate(plugins=plugins, bans=Bans(BanTerms(2, 60.0, 60.0)))
        broker = Broker(gate)
        assert [await login(broker, "joe", b"x") for _ in range(3)] == reasons
        await gate.close()


class Late(Open):
    """Never answers."""

    async def authenticate(self, *, session: Any) -> bool | None:
        await asyncio.Event().wait()
        return True


class Blocking(Open):
    """Waits without awaiting."""

    async def authenticate(self, *, session: Any) -> bool | None:
        time.sleep(1.0)
        return True


@pytest.mark.parametrize("need", ["all", "any"])
async def test_plugin_that_is_late_is_named(need: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.access.amqtt_plugins._TIMEOUT", 0.1)
    late: dict[str, dict[str, Any] | None] = {f"{HERE}.Late": {}, f"{HERE}.Silent": {}}
    async with guarded(AmqttPlugins(late, logins=need)) as broker:
        assert await login(broker, "joe", b"x") == 0x88
        assert told(broker) == [("refused", f"0x88, {HERE}.Late failed: TimeoutError")]
    if need == "any":
        async with guarded(AmqttPlugins({**late, f"{HERE}.Open": {}}, logins=need)) as broker:
            assert await login(broker, "joe", b"x") == 0, "the one behind it is asked"


async def test_plugin_that_blocks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = AmqttPlugins({f"{HERE}.Blocking": {}})
    async with guarded(plugins) as broker:
        monkeypatch.setattr("broker.access.amqtt_plugins._TIMEOUT", 0.1)
        monkeypatch.setattr("broker.access.amqtt_plugins._GRACE", 0.1)
        assert await login(broker, "joe", b"x") == 0x88
        assert told(broker) == [("refused", f"0x88, no answer of {HERE}.Blocking within 0.2 s")]
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("need", "reasons", "denied"),
    [("all", [0x87, 1], "AB says no"), ("any", [1, 1], "")],
)
async def test_topics(need: Any, reasons: list[int], denied: str) -> None:
    plugins: dict[str, dict[str, Any] | None] = {
        f"{HERE}.Open": {},
        f"{HERE}.A": {},
        f"{HERE}.AB": {},
    }
    async with guarded(AmqttPlugins(plugins, topics=need)) as broker:
        peer = broker.peer()
        peer.send(wire.connect("c", 5))
        assert await answered(peer) == 0
        peer.send(wire.subscribe(1, [("A/x", 1), ("AB/x", 1), ("B", 1)], 5))
        await until(lambda: peer.transport.written)
        assert peer.take()[0].reasons == [*reasons, 0x87]
        lines = [detail for _, detail in told(broker)]
        assert lines[-1] == f"subscribe to 'B', QoS 1: {HERE}.A says no; {HERE}.AB says no"
        assert (lines[0] == f"subscribe to 'A/x', QoS 1: {HERE}.{denied}") == (need == "all")


# -- LDAP, whose plugin of amqtt puts names into search filters as they are -----------------------------------


@pytest.mark.parametrize(
    ("username", "password", "unfit"),
    [
        ("joe", b"secret", ""),
        ("j.o-e_1@example.org", b"secret", ""),
        ("*", b"secret", "the user name holds"),
        ("jo*", b"secret", "the user name holds"),
        ("joe)(cn=*", b"secret", "the user name holds"),
        ("jo\\65", b"secret", "the user name holds"),
        ("joe", b"", "the password is empty"),
        ("joe", None, "the password is empty"),
        (None, b"secret", "no user name"),
    ],
)
async def test_who_is_never_shown_to_the_directory(
    username: str | None, password: bytes | None, unfit: str
) -> None:
    session = _session(Credentials("c", username, password, "192.0.2.1", "test"))
    found = unfit_for_ldap(session, login=True)
    assert found.startswith(unfit)
    assert bool(found) == bool(unfit)
    asked: list[str | None] = []

    async def ask(plugin: _Plugin) -> bool | None:
        asked.append(session.username)
        return True

    plugins = AmqttPlugins({f"{HERE}.Open": {}})
    await plugins.start()
    (plugin,) = plugins._plugins
    assert not plugin.is_ldap
    plugin.is_ldap = True
    answer = await plugins._answer(plugin, session, ask, login=True)
    assert (answer.said, asked) == ((False, []) if unfit else (True, [username]))
    assert unfit in answer.why
    assert not answer.failed, "who guesses at it is counted"
    await plugins.close()


async def test_ldap_plugins_are_known_whoever_derives_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Open, "__module__", "amqtt.contrib.ldap")
    plugins = AmqttPlugins({f"{HERE}.Silent": {}})
    await plugins.start()
    assert plugins._plugins[0].is_ldap
    refused = await plugins.objection(Credentials("c", "a*", b"x", "192.0.2.1", "test"), Action.PUBLISH, "t")
    assert refused.why, "no topic plugin, nobody allows"
    await plugins.close()
