"""Access lists: lines that allow or deny, the first that fits decides, and what none fits is denied.

    allow|deny [user=…] [client=…] [address=…] [listener=…] [qos=…] [retain=yes|no] publish|subscribe|all FILTER

`user`, `client` and `listener` may hold * and ?; `user=-` is a client without a user name; `address` is an address or
a network; `qos` a list such as 0,1. In the filter `%u` and `%c` stand for the client's user name and identifier.
"""

from __future__ import annotations

import ipaddress
import shlex
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from broker.ports import Action, Credentials, right
from broker.protocol.errors import ProtocolError
from broker.protocol.topics import covers, validate_filter

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ACTIONS = {
    "publish": frozenset({Action.PUBLISH}),
    "subscribe": frozenset({Action.SUBSCRIBE, Action.RECEIVE}),
    "all": frozenset(Action),
}
_KEYS = ("user", "client", "address", "listener", "qos", "retain")
_NOBODY = "-"
_MANY_CLIENTS = 10_000


class AclError(Exception):
    """What is wrong with an access list, in words for the operator."""


class Rule(NamedTuple):
    """One line. ``None`` stands for a condition that is not there."""

    line: int
    text: str
    allow: bool
    actions: frozenset[Action]
    topic_filter: str
    user: str | None = None
    client: str | None = None
    address: Network | None = None
    listener: str | None = None
    qos: frozenset[int] | None = None
    retain: bool | None = None

    def concerns(self, who: Credentials) -> bool:
        """Whether the line is about this client."""
        return (
            _fits(self.user, who.username)
            and _fits(self.client, who.client_id)
            and _fits(self.listener, who.listener)
            and (self.address is None or _within(who.address, self.address))
        )

    def filter_for(self, who: Credentials) -> str | None:
        """The filter with the client's names in it; None where a name could widen the filter."""
        topic_filter = self.topic_filter
        for mark, name in (("%u", who.username), ("%c", who.client_id)):
            if mark in topic_filter:
                if not name or any(sign in name for sign in "+#/"):
                    return None
                topic_filter = topic_filter.replace(mark, name)
        return topic_filter


def _fits(pattern: str | None, name: str | None) -> bool:
    if pattern is None:
        return True
    if name is None:
        return pattern == _NOBODY
    return pattern != _NOBODY and fnmatchcase(name, pattern)


def _within(address: str, network: Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        # A Unix socket's client has no address.
        return False


class Verdict(NamedTuple):
    """What an access list says, and the line that says it; None where no line fits."""

    allowed: bool
    rule: Rule | None


class Acl:
    """An access list that was read. All questions are answered at once. ``name`` is its file's."""

    def __init__(self, rules: list[Rule], name: str = "acl") -> None:
        self.rules = rules
        self._name = name
        self._about: dict[Credentials, list[tuple[Rule, str]]] = {}

    def verdict(
        self, who: Credentials, action: Action, topic: str, qos: int = 0, retain: bool = False
    ) -> Verdict:
        """Whether a client may do something; ``topic`` is a filter where it wants to subscribe."""
        for rule, topic_filter in self._rules_about(who):
            if (
                action in rule.actions
                and (rule.qos is None or action is Action.RECEIVE or qos in rule.qos)
                and (rule.retain is None or action is not Action.PUBLISH or retain == rule.retain)
                and covers(topic_filter, topic)
            ):
                return Verdict(rule.allow, rule)
        return Verdict(False, None)

    def told(self, verdict: Verdict) -> str:
        """What decides, for people: `file:line: the line`."""
        rule = verdict.rule
        return (
            f"{self._name}:{rule.line}: {rule.text}" if rule is not None else f"no line of {self._name} fits"
        )

    def rights(self, who: Credentials, topic: str) -> int:
        """The rights to publish to a topic (see :func:`broker.ports.right`)."""
        found = 0
        for qos in (0, 1, 2):
            for retain in (False, True):
                if self.verdict(who, Action.PUBLISH, topic, qos, retain).allowed:
                    found |= right(qos, retain)
        return found

    def _rules_about(self, who: Credentials) -> list[tuple[Rule, str]]:
        known = self._about.get(who._replace(password=None, context=None))
        if known is None:
            if len(self._about) >= _MANY_CLIENTS:
                self._about.clear()
            known = []
            for rule in self.rules:
                if rule.concerns(who):
                    topic_filter = rule.filter_for(who)
                    if topic_filter is not None:
                        known.append((rule, topic_filter))
            self._about[who._replace(password=None, context=None)] = known
        return known


def read_acl(path: Path) -> Acl:
    """The access list of a file; AclError tells every line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AclError(f"{path}: cannot be read: {reason}") from None
    return parse_acl(text, str(path))


def parse_acl(text: str, name: str = "acl") -> Acl:
    """The access list in a text; AclError tells every line that is wrong."""
    rules: list[Rule] = []
    mistakes: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            try:
                rules.append(_parse_line(number, stripped))
            except ValueError as error:
                mistakes.append(f"{name}:{number}: {error}")
    if mistakes:
        raise AclError("\n".join(mistakes))
    return Acl(rules, name)


def _parse_line(number: int, line: str) -> Rule:
    # Without comments: a filter may end in #.
    words = shlex.split(line)
    if len(words) < 3 or words[0] not in ("allow", "deny"):
        raise ValueError("not `allow|deny [conditions] publish|subscribe|all FILTER`")
    *conditions, action, topic_filter = words[1:]
    if action not in _ACTIONS:
        raise ValueError(f"{action!r} is no action: allowed are {', '.join(_ACTIONS)}")
    try:
        validate_filter(topic_filter)
    except ProtocolError as error:
        raise ValueError(f"{topic_filter!r} is no topic filter: {error.detail}") from None
    if topic_filter.startswith("$share/"):
        raise ValueError("$share/… stands for its filter: leave out $share/ and the group")
    rule = Rule(number, line, words[0] == "allow", _ACTIONS[action], topic_filter)
    for condition in conditions:
        rule = _with_condition(rule, condition)
    return rule


def _with_condition(rule: Rule, condition: str) -> Rule:
    key, equals, value = condition.partition("=")
    if key not in _KEYS or not equals or not value:
        raise ValueError(f"{condition!r} is no condition: allowed are {'=, '.join(_KEYS)}=")
    if getattr(rule, key) is not None:
        raise ValueError(f"{key} twice")
    if key == "address":
        try:
            return rule._replace(address=ipaddress.ip_network(value))
        except ValueError:
            raise ValueError(f"{value!r} is neither an address nor a network such as 192.0.2.0/24") from None
    if key == "qos":
        if not set(value.split(",")) <= {"0", "1", "2"}:
            raise ValueError(f"{value!r} is no list of QoS such as 0,1")
        return rule._replace(qos=frozenset(map(int, value.split(","))))
    if key == "retain":
        if value not in ("yes", "no"):
            raise ValueError(f"retain is yes or no, not {value!r}")
        return rule._replace(retain=value == "yes")
    changed: dict[str, str] = {key: value}
    return rule._replace(**changed)  # type: ignore[arg-type]
