"""A node that joins a mesh for the first time serves its first client as it will serve all others."""

from __future__ import annotations

import uuid
from pathlib import Path

from tests.end_to_end.nodes import Client, NodeProcess, wait_for
from tests.ports import free_port

KNOWN = 2000


def test_first_subscriber_of_a_new_node_gets_what_others_retain(tmp_path: Path) -> None:
    namespace = f"new-{uuid.uuid4().hex[:8]}"
    old = NodeProcess(tmp_path, "old", namespace)
    new = NodeProcess(tmp_path, "new", namespace, mesh={"connect": [f"tcp/127.0.0.1:{old.mesh_port}"]})
    try:
        old.start()
        publisher = Client(old, "publisher")
        mids = [publisher.publish(f"known/{number}", b"x", 1, retain=True) for number in range(KNOWN)]
        wait_for(lambda: publisher.acknowledged.issuperset(mids), "all are retained")
        new.start()
        subscriber = Client(new, "subscriber")
        subscriber.subscribe("known/#")
        wait_for(lambda: len(subscriber.received) == KNOWN, "they are told to who subscribes first")
    finally:
        new.stop()
        old.stop()


def test_new_node_that_reaches_nobody_serves_its_clients(tmp_path: Path) -> None:
    nowhere = f"tcp/127.0.0.1:{free_port()}"
    alone = NodeProcess(tmp_path, "alone", f"new-{uuid.uuid4().hex[:8]}", mesh={"connect": [nowhere]})
    try:
        alone.start()
        subscriber, publisher = Client(alone, "subscriber"), Client(alone, "publisher")
        subscriber.subscribe("t")
        publisher.publish("t", b"here")
        wait_for(lambda: subscriber.received == [("t", b"here")], "it is a broker by itself")
    finally:
        alone.stop()
