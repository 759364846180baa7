"""`make scale`: meshes of 10, 100 and 1,000 nodes with a million subscriptions; writes docs/scale.md's table."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_mesh.interest import MAX_FILTERS
from tests.scale.growth import table

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
BEGIN, END = "<!-- scale: begin -->", "<!-- scale: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=1_000_000)
    subscriptions = parser.parse_args().subscriptions
    sizes = [(nodes, subscriptions, most) for most in (MAX_FILTERS, 100) for nodes in (10, 100, 1000)]
    lines = table(sizes, lambda line: print(line, flush=True))
    before, rest = DOCUMENT.read_text().split(BEGIN, 1)
    _, after = rest.split(END, 1)
    DOCUMENT.write_text("\n".join([before + BEGIN, *lines, END]) + after)


if __name__ == "__main__":
    main()
