"""What the simulated vehicles report: a pure generator, without clock, socket or event loop."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

_METRES_PER_DEGREE = 111_320.0
_DRIVES = (20.0, 60.0)
_STOPS = (5.0, 15.0)


class Driver(NamedTuple):
    """The personal part of a report. Nobody has these numbers: they are from ranges kept for fiction."""

    name: str
    phone: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """The vehicles of one region."""

    region: str
    centre: tuple[float, float]
    """Latitude and longitude, degrees."""
    drivers: tuple[Driver, ...]


FLEETS = (
    Fleet(
        "eu",
        (50.1109, 8.6821),
        (
            Driver("Ana Lindqvist", "+44 7700 900114"),
            Driver("Bruno Keller", "+44 7700 900127"),
            Driver("Chloé Martin", "+44 7700 900168"),
            Driver("Dario Conti", "+44 7700 900193"),
        ),
    ),
    Fleet(
        "us",
        (41.8781, -87.6298),
        (
            Driver("Maya Johnson", "+1 312 555 0114"),
            Driver("Noah Rivera", "+1 312 555 0127"),
            Driver("Olivia Brooks", "+1 312 555 0168"),
            Driver("Peter Nowak", "+1 312 555 0193"),
        ),
    ),
    Fleet(
        "asia",
        (1.3521, 103.8198),
        (
            Driver("Wei Ling Tan", "+65 0555 0114"),
            Driver("Xavier Lim", "+65 0555 0127"),
            Driver("Yuki Sato", "+65 0555 0168"),
            Driver("Zara Rahman", "+65 0555 0193"),
        ),
    ),
)


class Vehicle:
    """One vehicle that drives about its region's centre and stops now and then.

    While it stands with the ignition off it goes on reporting: the noise that a node's ingress rule drops.
    """

    def __init__(self, fleet: Fleet, number: int, seed: int = 0) -> None:
        self.name = f"{fleet.region}-{number}"
        self.region = fleet.region
        self.driver = fleet.drivers[(number - 1) % len(fleet.drivers)]
        self.topic = f"fleet/{fleet.region}/{self.name}/telemetry"
        self._random = random.Random(f"{seed}/{self.name}")
        self._centre = fleet.centre
        self._latitude = fleet.centre[0] + self._random.uniform(-0.05, 0.05)
        self._longitude = fleet.centre[1] + self._random.uniform(-0.05, 0.05)
        self._heading = self._random.uniform(0.0, 2 * math.pi)
        self._speed = self._random.uniform(30.0, 90.0)
        self._temperature = self._random.uniform(18.0, 26.0)
        self._driving = True
        self._until = 0.0
        self._last = 0.0

    def report(self, now: float) -> dict[str, Any]:
        """The telemetry at ``now``, unix seconds: speed in km/h, temperature in degrees Celsius.

        ``ts`` has a tenth of a millisecond: latency is measured from it.
        """
        self._advance(now)
        return {
            "vehicle": self.name,
            "driver": {"name": self.driver.name, "phone": self.driver.phone},
            "position": {"lat": round(self._latitude, 5), "lon": round(self._longitude, 5)},
            "speed": round(self._speed, 1) if self._driving else 0,
            "temperature": round(self._temperature, 1),
            "ignition": self._driving,
            "ts": round(now, 4),
        }

    def _advance(self, now: float) -> None:
        chance = self._random
        if not self._last:
            self._last = now
            self._until = now + chance.uniform(3.0, _DRIVES[1])
        elapsed, self._last = max(0.0, now - self._last), now
        if now >= self._until:
            self._driving = not self._driving
            self._until = now + chance.uniform(*(_DRIVES if self._driving else _STOPS))
        self._temperature += chance.uniform(-0.1, 0.1)
        if not self._driving:
            return
        self._speed = min(110.0, max(8.0, self._speed + chance.uniform(-3.0, 3.0)))
        self._heading += chance.uniform(-0.3, 0.3)
        if math.hypot(self._latitude - self._centre[0], self._longitude - self._centre[1]) > 0.1:
            self._heading = math.atan2(self._centre[1] - self._longitude, self._centre[0] - self._latitude)
        metres = self._speed / 3.6 * elapsed
        self._latitude += metres * math.cos(self._heading) / _METRES_PER_DEGREE
        self._longitude += (
            metres * math.sin(self._heading) / (_METRES_PER_DEGREE * math.cos(math.radians(self._latitude)))
        )


def is_noise(report: dict[str, Any]) -> bool:
    """Whether a report says only that nothing happens: what the nodes' ingress rule drops."""
    return not report["ignition"] and report["speed"] == 0
