"""What may be said about listeners and access, and each mistake in clear words."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import load_text
from broker.config.base import join_address, split_address
from tests.config.test_read import mistakes

TLS = "tls: {certificate: c.pem, key: k.pem"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listeners: [{type: tls}]", "type tls needs `tls` with certificate and key"),
        (f"listeners: [{{{TLS}}}}}]", "type tcp has no TLS: say type: tls"),
        (f"listeners: [{{type: ws, {TLS}}}}}]", "type ws has no TLS: say type: wss"),
        (f"listeners: [{{type: tls, {TLS}, identity: common_name}}}}]", "say `client_certificate`, too"),
        (f"listeners: [{{type: tls, {TLS}, client_certificate: required}}}}]", "needs `ca`"),
        (f"listeners: [{{type: tls, {TLS}, minimum: '1.1'}}}}]", "allowed: '1.2', '1.3'"),
        ("listeners: [{bind: 'unix:'}]", "needs the path of the socket"),
        ("listeners: [{bind: 'unix:/x', mode: rw}]", "mode"),
        ("listeners: [{bind: 'unix:/x', proxies: [127.0.0.1]}]", "not by a Unix socket"),
        ("listeners: [{proxies: [10.0.0.0/33]}]", "not an address or a network such as 192.0.2.0/24"),
        ("listeners: [{mount_point: plant1}]", "ends with a slash"),
        ("listeners: [{mount_point: 'a/+/'}]", "not the beginning of a topic"),
        ("listeners: [{mount_point: '$x/'}]", "does not begin with a dollar sign"),
        ("listeners: [{origins: ['https://x']}]", "origins are about WebSocket listeners"),
        ("listeners: [{type: ws, path: mqtt}]", "path"),
        ("listeners: [{anonymous: false}]", "lets nobody in: name the file of `access.users`"),
        ("access: {anonymous: nowhere}", "lets nobody in: name the file of `access.users`"),
        ("listeners: [{bind: '0.0.0.0:1883'}]", "there are no credentials; name the file of `access.users`"),
        (
            "listeners: [{proxies: [127.0.0.1]}]",
            "is reached by other machines, through its `proxies` (127.0.0.1)",
        ),
        (
            "listeners: [{bind: '0.0.0.0:1'}]\n"
            "access: {amqtt: {amqtt.plugins.authentication.AnonymousAuthPlugin: , "
            "amqtt.plugins.topic_checking.TopicTabooPlugin: }}",
            "there are no credentials",
        ),
        ("mqtt: {connect_timeout: 0}", "mqtt.connect_timeout: 0"),
        (
            "listeners: [{name: a}, {name: a, bind: '127.0.0.1:1'}]",
            "listeners[1].name: two listeners are called 'a': listeners[0], too",
        ),
        (
            "listeners: [{}, {}]",
            "listeners[1].bind: 127.0.0.1:1883 is taken by listeners[0] (127.0.0.1:1883)",
        ),
        ("listeners: [{}, {bind: 'localhost:1883'}]", "localhost:1883 is taken by listeners[0]"),
        ("listeners: [{}, {bind: '0.0.0.0:1883', anonymous: true}]", "is taken by listeners[0]"),
        ("listeners: [{bind: 'unix:/x'}, {bind: 'unix:/x', name: b}]", "unix:/x is taken by listeners[0]"),
        ("listeners: [{path: /mqtt}]", "path is about WebSocket listeners: type ws or wss, not tcp"),
        ("listeners: [{mode: '0600'}]", "mode is about Unix sockets: bind unix:PATH, not 127.0.0.1:1883"),
        ("limits: {disk_reserve: 1XB}", "allowed units: B, kB, MB, GB, KiB, MiB, GiB"),
        ("listeners: [{limits: {message_rate: -1}}]", "listeners[0].limits.message_rate: -1"),
        ("listeners: [{access: {anonymous: nowhere}}]", "lets nobody in"),
        ("limits: {ban_after: -1}", "limits.ban_after: -1"),
        ("limits: {queue_full: drop}", "allowed: 'drop_newest', 'drop_oldest', 'disconnect'"),
    ],
)
def test_mistakes(text: str, expected: str) -> None:
    (problem,) = mistakes(text)
    assert expected in problem


def test_every_door_that_is_open_to_strangers_is_named() -> None:
    text = """
listeners:
  - bind: 0.0.0.0:1883
  - bind: 127.0.0.1:1884
  - bind: 127.0.0.1:1885
    proxies: [10.0.0.0/8, 127.0.0.1]
  - name: shut
    bind: 127.0.0.1:1886
    anonymous: false
"""
    first, second, third = mistakes(text)
    assert first.startswith(
        "node.yaml:3: listeners[0].bind: 0.0.0.0:1883 is reached by other machines, and there"
    )
    assert second.startswith(
        "node.yaml:5: listeners[2].bind: 127.0.0.1:1885 is reached by other machines, through its `proxies` "
        "(10.0.0.0/8, 127.0.0.1), and there are no credentials"
    )
    assert third.startswith("node.yaml:8: listeners[3].bind: 127.0.0.1:1886 lets nobody in")


@pytest.mark.parametrize(
    "text",
    [
        "listeners: [{bind: '127.0.0.1:0'}, {bind: '127.0.0.1:0', name: b}]",
        "listeners: [{bind: '127.0.0.1:1883'}, {bind: '[::1]:1883'}, {bind: '127.0.0.2:1883'}]",
        "listeners: [{bind: '0.0.0.0:1883'}, {bind: '[::]:1883'}]\naccess: {users: u}",
        "listeners: [{type: ws, path: /x}, {bind: 'unix:/x', mode: '0600'}]",
        "listeners: [{bind: '0.0.0.0:1883'}]\naccess: {users: u}",
        "listeners: [{bind: '0.0.0.0:1883', anonymous: true}]",
        "listeners: [{bind: '0.0.0.0:1883'}]\naccess: {anonymous: everywhere}",
        "listeners: [{bind: '0.0.0.0:1883'}]\naccess: {amqtt: {amqtt.plugins.authentication.FileAuthPlugin: }}",
        "listeners: [{type: tls, bind: '0.0.0.0:8883', "
        + TLS
        + ", ca: a, client_certificate: required, identity: common_name}}]",
        "listeners: [{bind: 'unix:run/geomq.sock'}]",
    ],
)
def test_what_lets_somebody_in(text: str) -> None:
    load_text(text)


def test_paths_count_from_the_files_folder(tmp_path: Path) -> None:
    config = load_text(
        f"listeners: [{{type: tls, {TLS}, names: {{n: {{certificate: c2, key: k2}}}}}}}}]\n"
        "access: {users: ../users, acl: /etc/acl}",
        folder=tmp_path,
    )
    tls = config.listeners[0].tls
    assert tls is not None
    assert tls.certificate == tmp_path / "c.pem"
    assert tls.names["n"].key == tmp_path / "k2"
    assert config.access.users == tmp_path.parent / "users"
    assert config.access.acl == Path("/etc/acl")


@pytest.mark.parametrize("bind", ["127.0.0.1:1883", "[::1]:1883", "[::]:0", "localhost:65535"])
def test_addresses_are_told_as_they_are_written(bind: str) -> None:
    assert join_address(*split_address(bind)) == bind
