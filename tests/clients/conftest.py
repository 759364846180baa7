"""Two regions for unmodified clients: what is published in one is heard in the other."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator

import pytest

from tests.end_to_end.nodes import Client, NodeProcess, wait_for

_numbers = itertools.count()


class Regions:
    """Two nodes of one mesh."""

    def __init__(self, near: NodeProcess, far: NodeProcess) -> None:
        self.near = near
        self.far = far

    def topic(self) -> str:
        """A topic of this test's own."""
        return f"clients/{next(_numbers)}"

    def await_interest(self, topic_filter: str) -> None:
        """Wait until the near node knows that somebody at the far one wants this."""
        topic = topic_filter.replace("#", "probe").replace("+", "probe")
        watcher = Client(self.far, f"watcher-{next(_numbers)}")
        watcher.subscribe(topic, 0)
        prober = Client(self.near, f"prober-{next(_numbers)}")

        def crossed() -> bool:
            prober.publish(topic, b"probe", 0)
            return bool(watcher.received)

        wait_for(crossed, f"the interest in {topic_filter} reaches the other node")
        watcher.close()
        prober.close()


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Regions]:
    folder = tmp_path_factory.mktemp("regions")
    namespace = f"clients-{uuid.uuid4().hex[:8]}"
    far = NodeProcess(folder, "far", namespace)
    near = NodeProcess(folder, "near", namespace, mesh={"connect": [f"tcp/127.0.0.1:{far.mesh_port}"]})
    far.start()
    near.start()
    yield Regions(near, far)
    assert near.stop() == 0
    assert far.stop() == 0
