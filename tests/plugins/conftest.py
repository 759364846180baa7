"""What the tests of plugins share."""

from __future__ import annotations

import pytest

from tests.plugins import leaf


@pytest.fixture(scope="session")
def leaf_module() -> None:
    """The module of single masks, built before a test is timed."""
    leaf.code()
