"""The link between two brokers, to be slowed, cut and healed: a relay, or a network namespace's cable."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from typing import Protocol

from tests.mesh.relay import Relay


class Link(Protocol):
    """The near broker connects to ``host:port``, and is led to the port of the far one."""

    host: str
    port: int
    far_host: str
    """Where clients find the far broker, whatever is done to the link."""
    far_bind: str
    """The address at which the far broker listens for the near one."""
    far_prefix: tuple[str, ...]
    """What comes before the far broker's command."""

    def start(self, far_port: int) -> None:
        """Lead to this port of the far broker."""

    def stop(self) -> None:
        """Take the link away."""

    def cut(self) -> None:
        """Let nothing through."""

    def cut_one_way(self, forth: bool) -> None:
        """Let nothing through to the far broker (``forth``), or nothing from it."""

    def slow(self, round_trip: float) -> None:
        """Have a round trip take so many seconds longer."""

    def lose(self, percent: int) -> None:
        """Lose this share of the packets, in either direction."""

    def heal(self) -> None:
        """As at the start."""


class RelayLink:
    """A TCP relay of the test: cuts end its connections."""

    host = far_host = far_bind = "127.0.0.1"
    far_prefix: tuple[str, ...] = ()

    def start(self, far_port: int) -> None:
        self._relay = Relay(far_port)
        self._relay.start()
        self.port = self._relay.port

    def stop(self) -> None:
        self._relay.stop()

    def cut(self) -> None:
        self._relay.cut()

    def cut_one_way(self, forth: bool) -> None:
        self._relay.cut_one_way(forth)

    def slow(self, round_trip: float) -> None:
        self._relay.slow(round_trip)

    def lose(self, percent: int) -> None:
        raise NotImplementedError("a relay sees no packets")

    def heal(self) -> None:
        self._relay.slow(0)
        self._relay.heal()


class CableLink:
    """The far broker is in a network namespace with two cables: one for its clients, one to be cut."""

    def __init__(self) -> None:
        number = _claim_namespace()
        self._namespace = f"gmq{number}"
        self._cables = {"gm": f"10.213.{number}", "gl": f"10.214.{number}"}
        self._names = {kind: f"{kind}{number}" for kind in self._cables}
        self.far_prefix = ("ip", "netns", "exec", self._namespace)
        self.far_host = self._cables["gm"] + ".2"
        self.host = self._cables["gl"] + ".2"
        self.far_bind = "0.0.0.0"

    def start(self, far_port: int) -> None:
        self.port = far_port
        inside = ("ip", "-n", self._namespace)
        _run(*inside, "link", "set", "lo", "up")
        for kind, network in self._cables.items():
            here, there = self._names[kind], self._names[kind] + "f"
            _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", self._namespace)
            _run("ip", "address", "add", f"{network}.1/30", "dev", here)
            _run(*inside, "address", "add", f"{network}.2/30", "dev", there)
            _run("ip", "link", "set", here, "up")
            _run(*inside, "link", "set", there, "up")

    def stop(self) -> None:
        # The namespace alone would take its cables with it, but not at once: the next could not have their names.
        for name in self._names.values():
            with contextlib.suppress(OSError):
                _run("ip", "link", "delete", name)
        with contextlib.suppress(OSError):
            _run("ip", "netns", "delete", self._namespace)

    def cut(self) -> None:
        _run("ip", "link", "set", self._names["gl"], "down")

    def cut_one_way(self, forth: bool) -> None:
        self._filter({"input" if forth else "output": "drop"})

    def slow(self, round_trip: float) -> None:
        raise NotImplementedError("the kernel has no netem: a relay delays")

    def lose(self, percent: int) -> None:
        rule = f"numgen random mod 100 < {percent} drop"
        self._filter({"input": rule, "output": rule})

    def heal(self) -> None:
        _run("ip", "link", "set", self._names["gl"], "up")
        self._filter({})

    def _filter(self, rules: dict[str, str]) -> None:
        text = "table inet faults {}\ndelete table inet faults\n"
        if rules:
            cable = self._names["gl"] + "f"
            chains = "".join(
                f"chain {hook} {{ type filter hook {hook} priority 0; "
                f"{'iifname' if hook == 'input' else 'oifname'} {cable} {rule}; }}\n"
                for hook, rule in rules.items()
            )
            text += f"table inet faults {{\n{chains}}}\n"
        _run(*self.far_prefix, "nft", "-f", "-", text=text)


def _claim_namespace() -> int:
    """The number of a namespace that was made for it: nobody else has its names and addresses then."""
    for number in range(256):
        try:
            _run("ip", "netns", "add", f"gmq{number}")
        except OSError as error:
            if "File exists" not in str(error):
                raise
        else:
            return number
    raise OSError("the network namespaces gmq0 to gmq255 are all there: delete those that no run uses")


def _run(*command: str, text: str = "") -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=10)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@functools.cache
def no_cables() -> str:
    """Why there cannot be a :class:`CableLink` here; empty where there can."""
    if os.geteuid():
        return "network namespaces need root"
    for program in ("ip", "nft"):
        if not shutil.which(program):
            return f"{program} is not installed"
    try:
        link = CableLink()
    except OSError as error:
        return str(error)
    try:
        link.start(0)
        link.lose(1)
    except OSError as error:
        return str(error)
    finally:
        link.stop()
    return ""
