"""Fixtures of the mesh's tests: each test has a namespace, ports and folders of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from edge_mesh import mesh
from tests.mesh.fakes import Meadow, meadow


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nodes look at every few seconds they look at twice a second."""
    monkeypatch.setattr(mesh, "_LOOK_SECONDS", 0.5)
    monkeypatch.setattr(mesh, "_PRUNE_SECONDS", 0.5)


@pytest_asyncio.fixture
async def nodes(tmp_path: Path, namespace: str) -> AsyncIterator[Meadow]:
    async with meadow(tmp_path, namespace) as made:
        yield made
