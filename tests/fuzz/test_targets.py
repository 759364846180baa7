"""The fuzzers' contracts: every input of the corpus, and hypothesis' own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS
from tests.protocol.samples import SAMPLES

CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert len(inputs) > 50
    for path in inputs:
        TARGETS[name](path.read_bytes())


PIECES = [sample.data for samples in SAMPLES.values() for sample in samples]


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=400, deadline=None)
@given(
    first=st.integers(0, 255),
    pieces=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=30)), max_size=10),
)
def test_anything(name: str, first: int, pieces: list[bytes]) -> None:
    TARGETS[name](bytes([first]) + b"".join(pieces))
