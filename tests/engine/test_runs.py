"""QoS 0 messages that are worked on in one piece: the same for receivers as one by one, here and from other nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from broker.message import Message, Run
from broker.ports import Later, LaterRun, Outbound, Processed, Stage
from broker.protocol.packets import PublishRun
from tests.engine.harness import WALL, Broker
from tests.protocol import wire

NUMBERS = [b"%04d" % number for number in range(50)]


class Mesh:
    """Keeps what it is given."""

    failing = False

    def __init__(self) -> None:
        self.runs: list[tuple[Run, tuple[str, ...]]] = []
        self.batches: list[Outbound] = []
        self.interest: list[str] = []

    def interest_added(self, topic_filter: str) -> None:
        self.interest.append(topic_filter)

    def forward(self, batch: Sequence[Outbound], on_safe: Callable[[], None] | None) -> bool:
        self.batches += batch
        return False

    def forward_run(self, run: Run, nodes: tuple[str, ...]) -> None:
        self.runs.append((run, nodes))


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def mesh(broker: Broker) -> Mesh:
    mesh = Mesh()
    broker.engine.mesh = mesh  # type: ignore[assignment]
    broker.engine.remote_interest("n2", ["far/+"], [])
    return mesh


def packets(topic: str, payloads: Sequence[bytes], version: int) -> list[bytes]:
    return [wire.publish(topic, payload, 0, 0, version) for payload in payloads]


@pytest.mark.parametrize("version", [4, 5])
def test_a_run_goes_to_other_nodes_in_one_piece_and_to_those_who_are_here(
    broker: Broker, mesh: Mesh, version: int
) -> None:
    here = [broker.client(f"sub{other}", other) for other in (4, 5)]
    for subscriber in here:
        subscriber.subscribe(("far/+", 0))
    publisher = broker.client("pub", version)
    publisher.send(*packets("far/1", NUMBERS, version))
    for subscriber in here:
        assert subscriber.heard() == [("far/1", payload) for payload in NUMBERS]
    assert not mesh.batches
    sent = [message for run, _ in mesh.runs for message in run.messages()]
    assert [(message.topic, message.payload, message.publisher) for message in sent] == [
        ("far/1", payload, "pub") for payload in NUMBERS
    ]
    assert len(mesh.runs) < 5, "in one piece"
    assert {nodes for _, nodes in mesh.runs} == {("n2",)}
    assert broker.engine.stats.publish_to_mesh == len(NUMBERS)


def test_messages_of_nothing_go_one_by_one(broker: Broker, mesh: Mesh) -> None:
    broker.client("pub").send(*packets("far/1", [b""] * 3, 5))
    assert not mesh.runs
    assert [(item.message.topic, item.message.payload, item.nodes) for item in mesh.batches] == [
        ("far/1", b"", ("n2",))
    ] * 3


def test_what_shared_subscriptions_take_part_in_goes_one_by_one(broker: Broker, mesh: Mesh) -> None:
    members = [broker.client(f"m{number}") for number in range(2)]
    for member in members:
        member.subscribe(("$share/g/far/#", 0))
    broker.client("pub").send(*packets("far/1", NUMBERS, 5))
    heard = [member.heard() for member in members]
    assert [len(part) for part in heard] == [25, 25]
    assert [item.message.payload for item in mesh.batches] == NUMBERS


def test_what_comes_as_a_run_is_heard_like_single_messages(broker: Broker) -> None:
    receivers = [broker.client(f"sub{version}", version) for version in (4, 5)]
    for receiver in receivers:
        receiver.subscribe(("a/#", 1))
    told = broker.client("told")
    told.subscribe(("a/b", 0), identifier=7)
    members = [broker.client(f"m{number}") for number in range(2)]
    broker.engine.deliver_from_mesh([Run("a/b", b"".join(NUMBERS), 4, origin="n2")], broker.now)
    for receiver in receivers:
        assert receiver.heard() == [("a/b", payload) for payload in NUMBERS]
    answers = told.take_kind(wire.PUBLISH)
    assert [answer.payload for answer in answers] == NUMBERS
    assert all((0x0B, 7) in answer.properties for answer in answers)
    for member in members:
        member.subscribe(("$share/g/a/#", 0))
    broker.engine.deliver_from_mesh([Run("a/b", b"".join(NUMBERS), 4, origin="n2")], broker.now)
    heard = [payload for member in members for _, payload in member.heard()]
    assert sorted(heard) == NUMBERS
    assert broker.engine.stats.publish_from_mesh == 2 * len(NUMBERS)
    assert broker.engine.stats.publish_unwanted == 0


def test_a_run_that_nobody_wants_is_counted(broker: Broker) -> None:
    broker.engine.deliver_from_mesh([Run("a/b", b"".join(NUMBERS), 4, origin="n2")], broker.now)
    assert broker.engine.stats.publish_from_mesh == len(NUMBERS)
    assert broker.engine.stats.publish_unwanted == len(NUMBERS)


class Rules:
    """Work on messages in one piece as they are told: payloads, or all that a rule may do, or nothing."""

    behind = False

    def __init__(self) -> None:
        self.answer: list[bytes | None] | Processed | None = []
        self.seen: list[tuple[int, str, str, str]] = []
        self.batches = 0
        self.most = 1000
        self.waiting: list[tuple[PublishRun, LaterRun]] = []

    def stages(self, topic: str) -> int:
        return Stage.INGRESS if topic.startswith("far/") else 0

    def run(self, stage: Stage, batch: Sequence[Message], now: float, then: Later) -> Processed:
        self.batches += 1
        return Processed(list(batch), [])

    def at_once(self, topic: str) -> int:
        return self.most

    def run_ingress_later(
        self, run: PublishRun, topic: str, publisher: str, user: str, then: LaterRun
    ) -> None:
        self.waiting.append((run, then))

    def run_ingress(
        self, run: PublishRun, topic: str, publisher: str, user: str, now: float
    ) -> list[bytes | None] | Processed | None:
        self.seen.append((run.count, topic, publisher, user))
        return self.answer


@pytest.fixture
def rules() -> Rules:
    return Rules()


@pytest.fixture
def ruled(rules: Rules) -> Broker:
    return Broker(pipeline=rules)


@pytest.mark.parametrize("version", [4, 5])
def test_rules_work_on_a_run_in_one_piece(ruled: Broker, rules: Rules, version: int) -> None:
    mesh = Mesh()
    ruled.engine.mesh = mesh  # type: ignore[assignment]
    ruled.engine.remote_interest("n2", ["far/#"], [])
    here = [ruled.client(f"sub{other}", other) for other in (4, 5)]
    for subscriber in here:
        subscriber.subscribe(("far/+", 1))
    told = ruled.client("told")
    told.subscribe(("far/1", 0), identifier=7)
    rules.answer = [b"aa", None, b"bb", b"", b"longer"]
    publisher = ruled.client("pub", version, username="ann")
    publisher.send(*packets("far/1", [b"%d" % number for number in range(5)], version))
    assert rules.seen == [(5, "far/1", "pub", "ann")]
    expected = [("far/1", payload) for payload in rules.answer if payload is not None]
    assert [subscriber.heard() for subscriber in [*here, told]] == [expected] * 3
    sent = [(message.payload, message.publisher) for run, _ in mesh.runs for message in run.messages()]
    assert sent == [(b"aa", "pub"), (b"bb", "pub"), (b"longer", "pub")]
    assert [item.message.payload for item in mesh.batches] == [b""], "a run has no messages of nothing"
    assert len(mesh.runs) == 2, "those of one length go together"
    assert ruled.engine.stats.publish_to_mesh == 4
    rules.answer = [None]
    publisher.send(*packets("far/1", [b"x"], version))
    rules.answer = []
    publisher.send(*packets("far/1", [b"as it came"], version))
    assert [subscriber.heard() for subscriber in [*here, told]] == [[("far/1", b"as it came")]] * 3
    assert rules.batches == 0


def test_rules_that_do_more_with_a_run(ruled: Broker, rules: Rules) -> None:
    subscriber = ruled.client("sub")
    subscriber.subscribe(("#", 0))
    rules.answer = Processed([Message("other", b"1"), None, Message("far/1", b"2")], [Message("alert", b"!")])
    ruled.client("pub").send(*packets("far/1", [b"1", b"2", b"3"], 5))
    assert subscriber.heard() == [("other", b"1"), ("far/1", b"2"), ("alert", b"!")]


def test_rules_that_cannot_work_on_a_run_get_its_messages(ruled: Broker, rules: Rules) -> None:
    subscriber = ruled.client("sub")
    subscriber.subscribe(("#", 0))
    rules.answer = None
    ruled.client("pub").send(*packets("far/1", NUMBERS, 5))
    assert subscriber.heard() == [("far/1", payload) for payload in NUMBERS]
    assert rules.batches > 0


def test_a_long_run_takes_several_turns_between_which_others_come(ruled: Broker, rules: Rules) -> None:
    subscriber = ruled.client("sub")
    subscriber.subscribe(("#", 0))
    rules.most = 64
    publisher = ruled.client("pub")
    numbers = [b"%04d" % number for number in range(150)]
    ruled.engine.turns.wake = lambda: order.append("turn")
    order: list[str] = []
    publisher.connection.receive(
        b"".join([*packets("far/1", numbers, 5), wire.publish("near", b"last", 0, 0, 5)]), ruled.now
    )
    assert [count for count, *_ in rules.seen] == [64]
    assert order == ["turn"]
    assert publisher.transport.paused, "what it sends meanwhile can wait"
    ruled.take_turns()
    assert [count for count, *_ in rules.seen] == [64, 64, 22]
    ruled.engine.flush()
    assert subscriber.heard() == [*(("far/1", number) for number in numbers), ("near", b"last")]
    assert not publisher.transport.paused
    assert ruled.engine.stats.publish_received == 151


def test_what_takes_long_is_heard_later_and_nothing_is_lost_of_it(ruled: Broker, rules: Rules) -> None:
    rules.most = 0
    subscriber, publisher = ruled.client("sub"), ruled.client("pub")
    subscriber.subscribe(("far/+", 0))
    numbers = [b"%04d" % number for number in range(100)]
    for _ in range(3):
        publisher.send(*packets("far/1", numbers, 5))
    publisher.send(*packets("far/1", [b"few"], 5))
    assert [run.count for run, _ in rules.waiting] == [100, 100, 100]
    assert (rules.seen, rules.batches) == ([], 1), "a few go with those of others"
    subscriber.heard()
    member = ruled.client("member")
    for number, found in enumerate(([], [None, b"x"], Processed([Message("far/2", b"y")], []))):
        if number == 1:
            member.subscribe(("$share/g/far/#", 0))
        _, then = rules.waiting[number]
        then(found, WALL)
    assert subscriber.heard() == [
        *(("far/1", number) for number in numbers),
        ("far/1", b"x"),
        ("far/2", b"y"),
    ]
    assert member.heard() == [("far/1", b"x"), ("far/2", b"y")]


def test_publishers_wait_for_rules_that_take_long(ruled: Broker, rules: Rules) -> None:
    rules.most = 0
    publisher = ruled.client("pub")
    for _ in range(2):
        publisher.connection.receive(b"".join(packets("far/1", [b"x"] * 8, 5)), ruled.now)
        assert publisher.transport.paused, "so that the next ones come in one piece"
    for _, then in rules.waiting:
        then([], WALL)
    assert not publisher.transport.paused
