"""`make fuzz`: coverage-guided fuzzing of the decoder and of whole connections, and of the built-in rules, beside each
other.

What a run learns goes to `.geomq/fuzz`; `--keep` has it reduced and put into tests/fuzz/corpus.
An input that breaks the contract ends the run and stays in `.geomq/fuzz`.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

NAMES = ("decoder", "connection")
CORPUS = Path(__file__).with_name("corpus")
WORK = Path(__file__).resolve().parents[2] / ".geomq" / "fuzz"
MAX_LENGTH = 600
BROKER = str(WORK.parents[1] / "broker")

Branch = tuple[str, int, int]
"""File, line before, line."""


def fuzz(name: str, arguments: list[str]) -> None:
    """Run one target in this process; does not return."""
    import atheris

    # Nothing of the broker is imported before, so that atheris sees which branches an input takes.
    with atheris.instrument_imports(include=["broker"]):
        from tests.fuzz import targets
    atheris.Setup([sys.argv[0], *arguments], targets.TARGETS[name])
    atheris.Fuzz()


def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A target in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "tests.fuzz", "--target", name, *arguments])


def run(seconds: int) -> int:
    """Fuzz all targets at a time; how many found something."""
    running = []
    for name in NAMES:
        learnt = WORK / name
        learnt.mkdir(parents=True, exist_ok=True)
        running.append(
            start(
                name,
                *(f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", "-timeout=10", "-verbosity=0"),
                *(
                    "-print_final_stats=1",
                    f"-artifact_prefix={WORK}/{name}-",
                    str(learnt),
                    str(CORPUS / name),
                ),
            )
        )
    rules = [sys.executable, "-m", "tests.fuzz.rules", "--seconds", str(seconds)]
    running.append(subprocess.Popen(rules))
    return sum(process.wait() != 0 for process in running)


def keep() -> None:
    """Put what reaches new branches into the corpus, the shortest inputs first, as few as do."""
    from tests.fuzz.targets import TARGETS

    for name in NAMES:
        learnt = [path.read_bytes() for folder in (CORPUS, WORK) for path in (folder / name).iterdir()]
        known: set[Branch] = set()
        kept: list[bytes] = []
        for data in sorted(set(learnt), key=lambda data: (len(data), data)):
            taken = branches(TARGETS[name], data)
            if not taken <= known:
                known |= taken
                kept.append(data)
        for old in (CORPUS / name).iterdir():
            old.unlink()
        for data in kept:
            (CORPUS / name / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        print(f"{name}: {len(kept)} of {len(learnt)} inputs reach all {len(known)} branches")


def branches(target: Callable[[bytes], None], data: bytes) -> set[Branch]:
    """The steps from line to line in the broker that an input takes."""
    taken: set[Branch] = set()
    last: dict[int, int] = {}

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        if not frame.f_code.co_filename.startswith(BROKER):
            return None
        here = id(frame)
        taken.add((frame.f_code.co_filename, last.get(here, 0) if event == "line" else 0, frame.f_lineno))
        last[here] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(None)
    return taken


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Look for input that breaks the broker.")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--target", choices=NAMES)
    parser.add_argument("--keep", action="store_true")
    options, rest = parser.parse_known_args()
    if options.target:
        fuzz(options.target, rest)
    elif options.keep:
        keep()
    else:
        raise SystemExit(run(options.seconds))


if __name__ == "__main__":
    main()
