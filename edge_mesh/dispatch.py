"""What has passed the rules, handed to the ways and to the outbox; sent at the end of the loop's turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from broker.message import OnceMessage, Run
from broker.ports import Outbound
from edge_mesh import envelope
from edge_mesh.boundary import OnSafe
from edge_mesh.outbox import Outbox
from edge_mesh.outbox_store import Entry
from edge_mesh.room import Room
from edge_mesh.ways import Plan, Ways


class Dispatch:
    """``durable`` says that publishers wait for the outbox. Called on the event loop."""

    def __init__(
        self, ways: Ways, outbox: Outbox, room: Room, durable: bool, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._ways = ways
        self._outbox = outbox
        self._room = room
        self._durable = durable
        self._loop = loop
        self._flush_due = False

    def send(self, passed: Sequence[Outbound], on_safe: OnSafe, dropped: Sequence[int] = ()) -> bool:
        """See :class:`edge_mesh.boundary.Send`."""
        self._flush_soon()
        ways = self._ways
        entries: list[Entry] = []
        stored_first: dict[Plan, None] = {}
        crosses = bool(dropped)
        waiting = False
        everybody_there = True
        for message, nodes in passed:
            record = envelope.encode_record(message)
            if not message.qos and not message.retain:
                ways.plan(nodes).add_live(record)
                continue
            # Retained messages go to everybody: subscribers may come anywhere, at any time.
            plan = ways.everybody if message.retain else ways.plan(nodes)
            crossing = message.crossing if type(message) is OnceMessage else 0
            crosses = crosses or crossing > 0
            if crosses:
                # What was sent, and not stored, would be sent again after a crash, as would what rules made of it.
                targets = plan.add_stored(record)
                stored_first[plan] = None
            else:
                targets = plan.add_durable(record)
            if targets:
                entries.append(Entry(record, message.expires_at, targets, crossing))
                waiting = waiting or message.qos > 0
                everybody_there = everybody_there and plan.everybody_there
        if not entries:
            return False
        entries.extend(Entry(b"", 0.0, (), number) for number in dropped)
        tight = not everybody_there and self._room.tight
        waiting = waiting and (self._durable or tight)
        if tight and on_safe is not None:
            on_safe = self._room.hold(on_safe)
        urgent = bool(stored_first) or not everybody_there
        self._outbox.add(entries, on_safe if waiting else None, urgent)
        for plan in stored_first:
            plan.send_stored()
        return waiting

    def send_run(self, run: Run, nodes: tuple[str, ...]) -> None:
        """Messages of one topic that may be lost."""
        self._flush_soon()
        plan = self._ways.plan(nodes)
        for record, count in envelope.encode_run(run):
            plan.add_live(record, count)

    def flush(self) -> None:
        """Send what was collected."""
        self._flush_due = False
        self._ways.flush()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)
