"""`geomq config check` opens the files that a configuration names, and tells all that is wrong in one run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli import app
from tests.net.certificates import Authority

ROOT = Path(__file__).resolve().parents[2]
SECRET = "correct horse battery staple"


def check(file: Path) -> tuple[int, list[str]]:
    """The exit status, and the problems without the file's name."""
    result = CliRunner().invoke(app, ["config", "check", str(file)])
    return result.exit_code, [line.removeprefix(f"{file}:") for line in result.output.splitlines()]


def test_everything_that_is_wrong_is_told_in_one_run(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    authority.issue("other")
    (tmp_path / "users").write_text(f"joe:{SECRET}\n")
    (tmp_path / "acl.txt").write_text("allow all #\nallow everything #\ndeny wish #\n")
    (tmp_path / "broken.wasm").write_bytes(b"\0asm?")
    file = tmp_path / "node.yaml"
    file.write_text(f"""\
listeners:
  - type: tls
    bind: 127.0.0.1:8883
    tls:
      certificate: server.pem
      key: other.key
      client_certificate: required
      ca: users
      crl: server.pem
      names:
        eu.example.org: {{certificate: gone.pem, key: gone.key}}
  - bind: unix:{tmp_path}/nowhere/geomq.sock
    access:
      amqtt:
        nowhere.Plugin:
access:
  users: users
  acl: acl.txt
  amqtt:
    amqtt.contrib.jwt.UserAuthJwtPlugin: {{secret: {SECRET}}}
    amqtt.plugins.authentication.FileAuthPlugin: {{password_file: {tmp_path}/passwords}}
mesh:
  tls: {{certificate: server.pem, key: server.key, ca: server.key}}
plugins:
  ingress:
    - {{name: good, topics: [a], module: rules, config: {{steps: []}}}}
    - {{name: gone, topics: [a], module: ./gone.wasm}}
  egress:
    - {{name: broken, topics: [a], module: ./broken.wasm}}
    - {{name: wrong, topics: [a], module: rules, config: {{mask: 5, steps: []}}}}
""")
    status, found = check(file)
    assert status == 1
    expected = [
        ("30", "plugins.egress[1].config.mask", "is not a key; allowed: format"),
        (
            "6",
            "listeners[0].tls.key",
            f"{tmp_path}/other.key: is not the private key of {tmp_path}/server.pem",
        ),
        ("11", "listeners[0].tls.names.eu.example.org.certificate", f"{tmp_path}/gone.pem: No such file"),
        ("11", "listeners[0].tls.names.eu.example.org.key", f"{tmp_path}/gone.key: No such file"),
        ("8", "listeners[0].tls.ca", f"{tmp_path}/users: holds no certificate: allowed: PEM with"),
        ("9", "listeners[0].tls.crl", f"{tmp_path}/server.pem: holds no revocation list: allowed: PEM with"),
        ("12", "listeners[1].bind", f"unix:{tmp_path}/nowhere/geomq.sock: {tmp_path}/nowhere is no folder"),
        ("15", "listeners[1].access.amqtt.nowhere.Plugin", "cannot be imported: No module named 'nowhere'"),
        ("17", "access.users", f"{tmp_path}/users:1: neither an argon2 hash nor"),
        ("18", "access.acl", f"{tmp_path}/acl.txt:2: 'everything' is no action: allowed are publish"),
        ("18", "access.acl", f"{tmp_path}/acl.txt:3: 'wish' is no action"),
        (
            "20",
            "access.amqtt.amqtt.contrib.jwt.UserAuthJwtPlugin",
            "secret is not a key; allowed keys: secret_key, user_claim",
        ),
        (
            "21",
            "access.amqtt.amqtt.plugins.authentication.FileAuthPlugin.password_file",
            f"{tmp_path}/passwords: No such file",
        ),
        ("23", "mesh.tls.ca", f"{tmp_path}/server.key: holds no certificate"),
        ("27", "plugins.ingress[1].module", f"{tmp_path}/gone.wasm: No such file"),
        ("29", "plugins.egress[0].module", f"{tmp_path}/broken.wasm: "),
    ]
    assert len(found) == len(expected), found
    for line, (number, key, words) in zip(found, expected, strict=True):
        assert line.startswith(f"{number}: {key}: {words}")
    assert SECRET not in "".join(found)


def test_files_are_opened_though_another_section_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("log: {level: loud}\naccess: {users: gone}\nmesh: {mode: hub}\n")
    status, found = check(file)
    assert status == 1
    assert [line.split(": ")[1] for line in found] == ["mesh.mode", "log.level", "access.users"]


def test_what_is_no_yaml(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("mesh: [")
    status, found = check(file)
    assert (status, len(found)) == (1, 1)
    assert "is not YAML" in found[0]


@pytest.mark.parametrize("name", ["single", "eu", "us", "asia"])
def test_examples(name: str) -> None:
    status, found = check(ROOT / "config" / f"{name}.yaml")
    assert (status, len(found)) == (0, 1)


def test_configuration_that_is_right(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    authority.revoke()
    (tmp_path / "acl.txt").write_text("allow all #\n")
    file = tmp_path / "node.yaml"
    file.write_text(f"""\
listeners:
  - type: tls
    bind: 0.0.0.0:8883
    tls: {{certificate: server.pem, key: server.key, client_certificate: required, ca: authority.pem, crl: crl.pem}}
    anonymous: true
  - bind: unix:{tmp_path}/geomq.sock
access:
  acl: acl.txt
  amqtt:
    amqtt.contrib.jwt.UserAuthJwtPlugin: {{secret_key: {SECRET}, user_claim: sub}}
""")
    status, found = check(file)
    assert status == 0, found
