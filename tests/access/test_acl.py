"""Access lists: what a line says, which line decides, and that nothing denied is ever heard."""

from __future__ import annotations

import contextlib
import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from broker.access.acl import Acl, AclError, parse_acl
from broker.access.gate import Gate
from broker.cli import app
from broker.ports import ALL_RIGHTS, Action, Credentials, right
from broker.protocol.topics import covers, matches
from tests.engine.harness import Broker
from tests.protocol import wire

JOE = Credentials("c1", "joe", None, "10.1.2.3", "plant")
NOBODY = Credentials("c2", None, None, "192.0.2.9", "street")

EXAMPLE = """
# what devices may do
deny   client=evil-*                        all        #
allow  user=joe                             publish    fleet/%c/#
allow  user=joe qos=0,1 retain=no           publish    log/%u
deny                                        subscribe  secret/#
allow  address=10.0.0.0/8 listener=plant    subscribe  #
allow  user=-                               subscribe  public/+
allow  user="Anna Lena"                     all        anna/#
"""


@pytest.fixture
def acl() -> Acl:
    return parse_acl(EXAMPLE)


@pytest.mark.parametrize(
    ("who", "action", "topic", "line"),
    [
        (JOE, Action.PUBLISH, "fleet/c1/x", 4),
        (JOE, Action.PUBLISH, "fleet/c2/x", None),
        (JOE._replace(client_id="evil-1"), Action.PUBLISH, "fleet/evil-1/x", 3),
        (JOE, Action.SUBSCRIBE, "#", 7),
        (JOE, Action.SUBSCRIBE, "secret/+", 6),
        (JOE, Action.RECEIVE, "secret/x", 6),
        (JOE, Action.RECEIVE, "open/x", 7),
        (JOE._replace(address="192.0.2.1"), Action.SUBSCRIBE, "#", None),
        (JOE._replace(address="local"), Action.SUBSCRIBE, "#", None),
        (NOBODY, Action.SUBSCRIBE, "public/x", 8),
        (NOBODY, Action.SUBSCRIBE, "public/+", 8),
        (NOBODY, Action.SUBSCRIBE, "public/#", None),
        (NOBODY._replace(username="x"), Action.SUBSCRIBE, "public/x", None),
        (NOBODY._replace(username="Anna Lena"), Action.PUBLISH, "anna", 9),
    ],
)
def test_first_line_that_fits_decides(
    acl: Acl, who: Credentials, action: Action, topic: str, line: int | None
) -> None:
    verdict = acl.verdict(who, action, topic)
    assert (verdict.rule.line if verdict.rule else None) == line
    assert verdict.allowed == (verdict.rule is not None and verdict.rule.text.startswith("allow"))


def test_qos_and_retain(acl: Acl) -> None:
    assert acl.rights(JOE, "log/joe") == right(0, False) | right(1, False)
    assert acl.rights(JOE, "fleet/c1/x") == ALL_RIGHTS
    assert acl.rights(JOE, "else") == 0


@pytest.mark.parametrize("name", ["#", "+", "a/b", ""])
def test_names_that_would_widen_a_filter_fit_nothing(acl: Acl, name: str) -> None:
    assert not acl.verdict(JOE._replace(client_id=name), Action.PUBLISH, f"fleet/{name}/x").allowed


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("permit publish a", "not `allow|deny"),
        ("allow publish", "not `allow|deny"),
        ("allow read a", "'read' is no action: allowed are publish, subscribe, all"),
        ("allow publish a#", "'a#' is no topic filter"),
        ("allow publish $share/g/a", "leave out $share/"),
        ("allow usr=joe publish a", "'usr=joe' is no condition: allowed are user="),
        ("allow user=joe user=ann publish a", "user twice"),
        ("allow address=10.0.0 publish a", "'10.0.0' is neither an address nor"),
        ("allow qos=3 publish a", "'3' is no list of QoS"),
        ("allow retain=maybe publish a", "retain is yes or no"),
        ('allow user="joe publish a', "No closing quotation"),
    ],
)
def test_every_mistake_is_told_by_its_line(line: str, complaint: str) -> None:
    with pytest.raises(AclError) as caught:
        parse_acl(f"allow all a\n{line}\n\n{line}", "list")
    first, second = str(caught.value).splitlines()
    assert first.startswith("list:2: ")
    assert second.startswith("list:4: ")
    assert complaint in first


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    with contextlib.suppress(AclError):
        assert all(rule.topic_filter for rule in parse_acl(text).rules)


LEVELS = st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=4).map("/".join)
FILTERS = st.lists(st.sampled_from(["a", "b", "", "$x", "+"]), min_size=1, max_size=4).flatmap(
    lambda levels: st.sampled_from(["/".join(levels), "/".join([*levels, "#"]), "#"])
)


@given(FILTERS, FILTERS, st.lists(LEVELS, max_size=30))
def test_covering_means_matching_all_of_it(wide: str, narrow: str, topics: list[str]) -> None:
    if covers(wide, narrow):
        assert all(matches(wide, topic) for topic in topics if matches(narrow, topic))
    for topic in topics:
        assert covers(wide, topic) == matches(wide, topic)


# -- the command -------------------------------------------------------------------------------------------


def check(file: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["acl", "check", "--file", str(file), *arguments])
    return result.exit_code, result.output.strip()


def test_command_explains(tmp_path: Path) -> None:
    file = tmp_path / "acl"
    file.write_text(EXAMPLE)
    joe = ("--user", "joe", "--client", "c1", "--address", "10.1.2.3", "--listener", "plant")
    assert check(file, *joe, "--topic", "fleet/c1/x") == (
        0,
        f"allowed by {file}:4: allow  user=joe                             publish    fleet/%c/#",
    )
    code, output = check(file, *joe, "--action", "subscribe", "--topic", "secret/#")
    assert (code, output.split(":")[0]) == (2, "denied by " + str(file))
    assert check(file, *joe, "--topic", "log/joe", "--qos", "2") == (2, f"denied: no line of {file} fits")
    assert check(file, *joe, "--topic", "log/joe", "--retain") == (2, f"denied: no line of {file} fits")
    assert check(file, *joe, "--topic", "log/+")[0] == 1, "no topic name"
    assert check(tmp_path / "missing", "--topic", "a")[0] == 1
    code, output = check(file, "--topic", "a", "--address", "nonsense")
    assert (code, output) == (
        1,
        "geomq: --address 'nonsense': allowed are an IP address such as 192.0.2.7, and `local` for a Unix socket",
    )
    assert check(file, "--topic", "a", "--address", "local")[0] == 2


def test_command_finds_the_list_of_the_listener(tmp_path: Path) -> None:
    (tmp_path / "acl.txt").write_text("allow all #\n")
    (tmp_path / "guests.txt").write_text("allow subscribe open/#\n")
    config = tmp_path / "node.yaml"
    config.write_text("""
listeners:
  - {name: front}
  - {name: guests, bind: "127.0.0.1:1884", access: {acl: guests.txt}}
  - {name: open, bind: "127.0.0.1:1885", access: {}}
access: {acl: acl.txt}
""")

    def asked(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["acl", "check", "--config", str(config), *arguments])
        return result.exit_code, result.output.strip()

    assert asked("--topic", "a") == (0, f"allowed by {tmp_path}/acl.txt:1: allow all #")
    assert asked("--topic", "a", "--listener", "front")[0] == 0
    assert asked("--topic", "a", "--listener", "guests") == (
        2,
        f"denied: no line of {tmp_path}/guests.txt fits",
    )
    assert asked("--topic", "$SYS/x") == (2, "denied: topics below $SYS are the node's own")
    code, output = asked("--topic", "a", "--listener", "open")
    assert (code, output.startswith("geomq: listeners[2].access.acl names no access list")) == (1, True)
    assert asked("--topic", "a", "--listener", "back") == (
        1,
        "geomq: --listener 'back': allowed are front, guests, open",
    )


# -- in a broker -------------------------------------------------------------------------------------------


async def test_denied_topics_are_neither_published_nor_heard(tmp_path: Path) -> None:
    file = tmp_path / "acl"
    file.write_text(
        "allow user=admin all #\n"
        "deny subscribe secret/#\n"
        "allow subscribe #\n"
        "allow qos=0 retain=no publish open/%c\n"
    )
    gate = Gate(acl=file, anonymous=["test"])
    broker = Broker(gate)
    admin = broker.client("admin")
    assert admin.connection.credentials is not None
    admin.connection.credentials = admin.connection.credentials._replace(username="admin")
    admin.publish("secret/kept", b"kept", retain=True)
    spy = broker.client("spy")
    assert spy.subscribe(("#", 1), ("secret/x", 1), ("$share/g/secret/+", 1)) == [1, 0x87, 0x87]
    member = broker.client("member")
    assert member.subscribe(("$share/g/#", 1)) == [1]
    admin.publish("secret/x", b"hidden", 1)
    admin.publish("open/x", b"seen", 1, 2)
    assert spy.heard() == [("open/x", b"seen")]
    assert member.heard() == [("open/x", b"seen")]
    assert broker.engine.stats.receive_denied == 2, "one was retained"
    admin.send(wire.publish("secret/x", b"hidden", version=5) * 3)
    assert spy.heard() == []
    assert broker.engine.stats.receive_denied == 5
    spy.take()
    for qos, retain, reason in ((0, False, None), (1, False, 0x87), (0, True, None)):
        spy.publish("open/spy", b"%d%d" % (qos, retain), qos, 7, retain=retain)
        answers = [answer for answer in spy.take() if answer.kind == wire.PUBACK]
        assert [answer.reason for answer in answers] == ([reason] if reason else [])
    assert member.heard() == [("open/spy", b"00")]
    assert broker.engine.stats.publish_denied == 2
    assert broker.engine.stats.subscribe_denied == 2
    await gate.close()


async def test_changed_list_counts_for_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "acl"
    file.write_text("allow all #\n")
    gate = Gate(acl=file, anonymous=["test"])
    broker = Broker(gate)
    subscriber = broker.client("subscriber")
    subscriber.subscribe(("a", 1), ("b/+", 1))
    publisher = broker.client("publisher")
    for topic in ("a", "b/x"):
        publisher.publish(topic, b"before")
    assert len(subscriber.heard()) == 2
    file.write_text("allow subscribe b/+\ndeny client=publisher publish a\nallow publish #\n")
    assert gate.refresh()
    broker.engine.rights.changed()
    assert list(broker.engine.local_filters()) == ["b/+"]
    assert broker.engine.stats.subscribe_denied == 1
    publisher.publish("a", b"after", 1)
    publisher.publish("b/x", b"after", 1)
    assert [answer.reason for answer in publisher.take_kind(wire.PUBACK)] == [0x87, 0]
    assert subscriber.heard() == [("b/x", b"after")]
    file.write_text("allow everything #\n")
    assert not gate.refresh(), "a list that is wrong changes nothing"
    await gate.close()


async def test_what_waited_is_looked_at_again(tmp_path: Path) -> None:
    """Rights may change, and a session pass to another user, while messages wait."""
    file = tmp_path / "acl"
    file.write_text("allow all #\n")
    gate = Gate(acl=file, anonymous=["test"])
    broker = Broker(gate)
    publisher = broker.client("publisher")
    lasting = wire.props((0x11, 100))
    sleeper = broker.client("sleeper", clean=False, properties=lasting)
    sleeper.subscribe(("#", 1))
    publisher.publish("q/sent", b"sent", 1, 1)
    sleeper.drop()
    publisher.publish("q/queued", b"queued", 1, 2)
    publisher.publish("open/queued", b"open", 1, 3)
    file.write_text("deny client=sleeper all q/#\nallow all #\n")
    assert gate.refresh()
    broker.engine.rights.changed()
    again = broker.client("sleeper", clean=False, properties=lasting)
    assert again.heard() == [("open/queued", b"open")]
    assert broker.engine.stats.receive_denied == 2
    session = again.connection.session
    assert session is not None
    assert [sent[0].topic for sent in session.inflight.values() if sent is not None] == ["open/queued"]
    await gate.close()


def test_networks_are_of_both_versions() -> None:
    acl = parse_acl("allow address=2001:db8::/32 all #")
    assert acl.rules[0].address == ipaddress.ip_network("2001:db8::/32")
    assert acl.verdict(JOE._replace(address="2001:db8::1"), Action.PUBLISH, "a").allowed
    assert not acl.verdict(JOE, Action.PUBLISH, "a").allowed
