"""An endpoint that cannot be reached is told, with the reason, once; a name or version that does not fit, too."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_mesh.client import query_status
from edge_mesh.endpoints import Place, parse
from edge_mesh.keys import Keys
from edge_mesh.link import MeshError
from edge_mesh.membership import Event, Membership, Seen
from edge_mesh.settings import MeshTls
from edge_mesh.zenoh_log import Refusals
from tests.mesh.fakes import Meadow, joined, until
from tests.net.certificates import LOCALHOST, Authority
from tests.ports import free_port


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("tcp/127.0.0.1:7447", Place("tcp", "127.0.0.1", 7447)),
        ("tls/broker.example:7447?so_rcvbuf=1#iface=eth0", Place("tls", "broker.example", 7447)),
        ("tcp/[::1]:7447", Place("tcp", "::1", 7447)),
        ("unixsock-stream/run/mesh.sock", None),
        ("tcp/7447", None),
    ],
)
def test_places_of_endpoints(endpoint: str, place: Place | None) -> None:
    assert parse(endpoint) == place


@pytest.mark.usefixtures("looking_often")
async def test_endpoint_that_nobody_listens_on(nodes: Meadow, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    a = await nodes.node("a", port)
    told = f"the mesh endpoint tcp/127.0.0.1:{port} cannot be reached, trying again: connection refused"
    await until(lambda: told in caplog.text)
    b = await nodes.node("b", listen=(f"tcp/127.0.0.1:{port}",))
    await joined(a, b)
    await until(lambda: f"the mesh endpoint tcp/127.0.0.1:{port} can be reached" in caplog.text)
    assert caplog.text.count("cannot be reached") == 1


def tls_of(authority: Authority, trusted: Authority, name: str) -> MeshTls:
    pair = authority.issue(name, *LOCALHOST)
    return MeshTls(pair.certificate, pair.key, trusted.certificate)


@pytest.mark.usefixtures("looking_often")
async def test_foreign_certificates_are_refused_and_told(
    nodes: Meadow, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    endpoint = f"tls/localhost:{free_port()}"
    a = await nodes.node("a", listen=(endpoint,), tls=tls_of(ours, ours, "a"))
    b = await nodes.node("b", listen=(), connect=(endpoint,), tls=tls_of(ours, ours, "b"))
    await joined(a, b)
    assert "cannot be reached" not in caplog.text
    await nodes.node("c", listen=(), connect=(endpoint,), tls=tls_of(foreign, ours, "c"))
    await until(lambda: "it does not accept the certificate of this node (" in caplog.text)
    caplog.clear()
    await nodes.node("d", listen=(), connect=(endpoint,), tls=tls_of(foreign, foreign, "d"))
    await until(lambda: "its certificate is not accepted here: " in caplog.text)
    assert a.sees("b")
    assert b.sees("a")


@pytest.mark.usefixtures("looking_often")
async def test_endpoint_of_another_transport_is_told(
    nodes: Meadow, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path, "ours")
    secret, plain = free_port(), free_port()
    tls = tls_of(authority, authority, "a")
    await nodes.node("a", listen=(f"tls/127.0.0.1:{secret}", f"tcp/127.0.0.1:{plain}"), tls=tls)
    await nodes.node("b", listen=(), connect=(f"tcp/127.0.0.1:{secret}",))
    told = f"TLS is spoken there: its endpoint is tls/127.0.0.1:{secret}"
    await until(lambda: told in caplog.text)
    await nodes.node("c", listen=(), connect=(f"tls/127.0.0.1:{plain}",), tls=tls)
    told = f"tls/127.0.0.1:{plain} cannot be reached, trying again: no TLS is spoken there"
    await until(lambda: told in caplog.text)


async def test_who_asks_is_told_why_no_node_answers(nodes: Meadow, tmp_path: Path) -> None:
    authority, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    secret, nobody = f"localhost:{free_port()}", f"tcp/127.0.0.1:{free_port()}"
    await nodes.node("a", listen=(f"tls/{secret}",), tls=tls_of(authority, authority, "a"))

    async def answer(*endpoints: str, tls: MeshTls | None = None) -> str:
        with pytest.raises((MeshError, ValueError)) as error:
            await query_status(endpoints, nodes.namespace, timeout=0.5, tls=tls)
        return str(error.value)

    assert await answer(nobody) == f"no node answers at {nobody}: connection refused"
    assert "TLS is spoken there" in await answer(f"tcp/{secret}")
    assert "it asks for certificates" in await answer(f"tls/{secret}")
    wrong = tls_of(foreign, authority, "c")
    assert "it does not accept the certificate of this node" in await answer(
        f"tls/{secret}", nobody, tls=wrong
    )
    assert "'eu' is not an endpoint such as tcp/" in await answer("eu")


async def test_two_nodes_that_connect_to_each_other_are_content(
    nodes: Meadow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_mesh.mesh._LOOK_SECONDS", 0.2)
    caplog.set_level(logging.INFO)
    port = free_port()
    a = await nodes.node("a", port)
    b = await nodes.node("b", a, listen=(f"tcp/127.0.0.1:{port}",))
    await joined(a, b)
    await until(lambda: a.peer("b").round_trip_ms)
    caplog.clear()
    for _ in range(20):
        await a.mesh._endpoints.check()
        await b.mesh._endpoints.check()
    assert "cannot be reached" not in caplog.text


def test_who_has_the_name_first_is_told_of_the_other(caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys("t")
    older, newer = Membership(keys, "twin", 1), Membership(keys, "twin", 2)
    for member in (older, newer):
        for incarnation in (1, 2):
            member.token_changed(keys.token("r", "twin", incarnation), True)
    assert (older.refused, newer.refused) == (False, True)
    assert caplog.text.count("another node calls itself 'twin'") == 1


def test_node_that_moves_to_another_region_stays_whichever_news_is_faster() -> None:
    keys = Keys("t")
    member = Membership(keys, "a", 1)
    old, new = keys.token("old", "b", 5), keys.token("new", "b", 5)
    assert member.token_changed(old, True) == Seen(Event.JOINED, "b", "old", 5)
    assert member.token_changed(new, True) == Seen(Event.JOINED, "b", "new", 5)
    assert member.token_changed(new, True) is None
    assert member.token_changed(old, False) is None
    assert member.token_changed(new, False) == Seen(Event.LEFT, "b", "new", 5)
    assert member.token_changed(new, False) is None


def test_foreign_version_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys("t")
    member = Membership(keys, "a", 1)
    token = keys.token("r", "b", 5).replace("/v1/", "/v2/")
    for _ in range(3):
        assert member.token_changed(token, True) is None
    assert caplog.text.count("node b speaks version 2 of the mesh protocol, this node 1") == 1


TLS = "\x1b[2m2026-11-27Z\x1b[0m \x1b[33m WARN\x1b[0m acc-0 \x1b[2mzenoh_link_tls::unicast\x1b[0m\x1b[2m:\x1b[0m "
QUIC = "2026-11-27T15:14:05Z  WARN acc-0 zenoh_link_commons::quic::unicast: QUIC acceptor failed: "


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            f"{TLS}invalid peer certificate: UnknownIssuer. Hint: increase the system open file limit.",
            "a node was refused: its certificate is not accepted here (UnknownIssuer)",
        ),
        (
            f'{QUIC}TransportError(Error {{ reason: "invalid peer certificate: UnknownIssuer" }}) at /root/x.rs:1.',
            "a node was refused: its certificate is not accepted here (UnknownIssuer)",
        ),
        (
            f"{TLS}received fatal alert: UnknownCA. Hint: increase the system open file limit.",
            "a node does not accept the certificate of this one (UnknownCA)",
        ),
        (
            f'{QUIC}ConnectionClosed(ConnectionClose {{ reason: b"invalid peer certificate: Expired" }}) at /x.rs.',
            "a node does not accept the certificate of this one (invalid peer certificate: Expired)",
        ),
        (
            f"{TLS}received corrupt message of type InvalidContentType. Hint: increase the system open file limit.",
            "a connection to the mesh was refused: it spoke no TLS; nodes have to connect to tls/ here",
        ),
        (
            f"{TLS}tls handshake eof. Hint: increase the system open file limit.",
            "a connection to the mesh ended within its TLS handshake",
        ),
        (
            f"{TLS}peer is incompatible. Hint: increase the system open file limit.",
            "a connection to the mesh was refused: peer is incompatible",
        ),
    ],
)
def test_what_zenoh_says_of_refused_links_is_told_once_and_again_later(line: str, told: str) -> None:
    refusals = Refusals()
    assert refusals.hear(line, 1.0) == (True, told)
    assert refusals.hear(line, 2.0) == (True, None)
    assert refusals.hear(line, 500.0) == (True, None)
    assert refusals.hear(line, 700.0) == (True, f"{told}; 2 more times since it was last told")


def test_what_else_zenoh_says_is_handed_on() -> None:
    for line in ("a line of something else", "2026 DEBUG zenoh_link_tls::unicast: hello", ""):
        assert Refusals().hear(line, 1.0) == (False, None)
