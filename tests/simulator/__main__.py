"""Run many schedules, or one again: ``python -m tests.simulator --seed 7 --trace``."""

from __future__ import annotations

import argparse
import time

from tests.simulator import schedule


def main() -> int:
    """The exit code: 1 where a schedule failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="run only this one")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--trace", action="store_true", help="print what happens")
    arguments = parser.parse_args()
    first, count = (
        (arguments.seed, 1) if arguments.seed is not None else (arguments.first, arguments.schedules)
    )
    began = time.monotonic()
    for seed in range(first, first + count):
        try:
            schedule.run(seed, print if arguments.trace else lambda line: None)
        except AssertionError as error:
            print(f"seed {seed}: {error}; again with: --seed {seed} --trace")
            return 1
    print(f"{count} schedules in {time.monotonic() - began:.0f} s: all well")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
