"""A node with a foreign certificate is refused, and both logs say so, once."""

from __future__ import annotations

import uuid
from pathlib import Path

from tests.end_to_end.nodes import NodeProcess, wait_for
from tests.net.certificates import LOCALHOST, Authority
from tests.ports import free_port


def test_wrong_certificate_is_told_on_both_sides(tmp_path: Path) -> None:
    ours, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    namespace = f"refused-{uuid.uuid4().hex[:8]}"
    endpoint = f"tls/localhost:{free_port()}"

    def mesh(authority: Authority, name: str) -> dict[str, object]:
        pair = authority.issue(name, *LOCALHOST)
        return {"certificate": str(pair.certificate), "key": str(pair.key), "ca": str(ours.certificate)}

    near = NodeProcess(tmp_path, "near", namespace, mesh={"listen": [endpoint], "tls": mesh(ours, "n")})
    far = NodeProcess(
        tmp_path, "far", namespace, mesh={"listen": [], "connect": [endpoint], "tls": mesh(foreign, "f")}
    )
    here, there = (
        "a node was refused: its certificate is not accepted here",
        "does not accept the certificate",
    )
    try:
        near.start()
        far.start()
        wait_for(lambda: here in near.log.read_text(), "the accepting node tells it")
        wait_for(lambda: there in far.log.read_text(), "the connecting node tells it")
        assert near.log.read_text().count(here) == 1
        assert far.log.read_text().count(there) == 1
        assert "Hint" not in near.log.read_text()
    finally:
        codes = [node.stop() for node in (near, far)]
    assert codes == [0, 0]
