"""mqtt.js, 3.1.1 and 5: the client of browsers and Node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import Regions

FOLDER = Path(__file__).with_name("mqttjs")
NODE = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None or not (FOLDER / "node_modules").exists(),
    reason="mqtt.js is not installed: `make test` does it",
)


@pytest.mark.parametrize("version", [4, 5])
def test_every_feature(regions: Regions, version: int) -> None:
    prefix = f"js{version}"
    assert NODE is not None
    done = subprocess.run(
        [NODE, "round.mjs", str(regions.near.mqtt_port), str(version), prefix],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["granted"] == [0, 2]
    assert outcome["levels"] == [["/l/0", "m0", 0], ["/l/1", "m1", 1], ["/l/2", "m2", 2]]
    assert outcome["afterUnsubscribe"] == "last"
    assert outcome["retained"] == ["kept", True]
    assert outcome["will"] == "gone"
    present, heard = outcome["session"]
    assert present
    for qos in (1, 2):
        assert [n for n in heard if n % 2 == qos - 1] == list(range(qos - 1, 20, 2))
    if version == 5:
        assert outcome["assigned"] == "string"
        assert outcome["aliased"] == [["/p/x", str(n)] for n in range(10)]
        assert outcome["properties"] == {
            "contentType": "a/b",
            "responseTopic": "back",
            "correlationData": "id",
            "payloadFormatIndicator": True,
            "userProperties": {"a": ["1", "2"]},
            "subscriptionIdentifier": 7,
            "expiry": True,
        }
        assert outcome["shared"] == [5, 5]
