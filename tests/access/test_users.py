"""The users file and the command that writes it."""

from __future__ import annotations

import base64
import contextlib
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from broker.access.scram import ScramExchange
from broker.access.users import ScramVerifier, User, UsersError, make_user, read_users, verify, write_users
from broker.cli import app

RUN = CliRunner()


def user(file: Path, *arguments: str, password: str = "") -> tuple[int, str]:
    """(exit code, all output) of `geomq user …`."""
    stdin = ["--password-stdin"] if password else []
    result = RUN.invoke(app, ["user", *arguments, "--file", str(file), *stdin], input=password + "\n")
    return result.exit_code, result.output


def test_passwords_are_known_by_their_verifiers_only(tmp_path: Path) -> None:
    file = tmp_path / "users"
    both, plain = make_user("pässword", scram=True), make_user("other")
    write_users(file, {"joe": both, "ann": plain})
    assert read_users(file) == {"joe": both, "ann": plain}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "pässword" not in file.read_text()
    assert verify(both, "pässword".encode())
    assert verify(User(scram=both.scram), "pässword".encode())
    for wrong in (b"", b"pass", b"other", b"\xff\x00"):
        assert not verify(both, wrong)
        assert not verify(User(scram=both.scram), wrong)
        assert not verify(None, wrong)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("joe", "users:1: neither an argon2 hash nor"),
        ("joe:secret", "users:1: neither an argon2 hash nor"),
        ("# comment\n\njoe:$argon2id$x", "users:3: not an argon2 hash"),
        (":x", "users:1: '' can be no user name"),
        ("joe:SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", "users:1: not a SCRAM-SHA-256 verifier"),
        ("joe:SCRAM-SHA-256$4096:A$A:A", "users:1: the SCRAM verifier is not base64"),
    ],
)
def test_what_is_wrong_is_told_by_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "users"
    file.write_text(text)
    with pytest.raises(UsersError) as caught:
        read_users(file)
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_users_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any-users"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(UsersError):
        assert all(user.argon2 or user.scram for user in read_users(file).values())


def test_command(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "users"
    code, output = user(file, "list")
    assert (code, "there is no such file" in output, str(file) in output) == (1, True, True)
    assert user(file, "add", "joe", password="first") == (0, "")
    assert user(file, "add", "ann", "--scram", password="annas") == (0, "")
    assert user(file, "list") == (0, "ann\tpassword, SCRAM-SHA-256\njoe\tpassword\n")
    assert user(file, "passwd", "joe", password="second") == (0, "")
    assert verify(read_users(file)["joe"], b"second")
    assert user(file, "passwd", "ann", password="new") == (0, "")
    assert read_users(file)["ann"].scram is not None
    assert user(file, "remove", "joe") == (0, "")
    assert list(read_users(file)) == ["ann"]


@pytest.mark.parametrize(
    ("arguments", "password", "complaint"),
    [
        (("add", "ann"), "x", "there is a user 'ann'"),
        (("passwd", "joe"), "x", "there is no user 'joe'"),
        (("remove", "joe"), "", "there is no user 'joe'"),
        (("add", "a:b"), "x", "'a:b' can be no user name"),
        (("add", "joe"), "\r", "the password is empty"),
    ],
)
def test_mistakes_change_nothing(
    tmp_path: Path, arguments: tuple[str, ...], password: str, complaint: str
) -> None:
    file = tmp_path / "users"
    write_users(file, {"ann": make_user("x")})
    before = file.read_bytes()
    code, output = user(file, *arguments, password=password)
    assert code == 1
    assert complaint in output
    assert file.read_bytes() == before


def test_scram_salts_do_not_tell_who_exists() -> None:
    """As long for strangers as for users, the same at each try, and after a restart."""
    users = {"ann": make_user("secret", scram=True)}

    def salt(name: str) -> bytes:
        step = ScramExchange(users).answer(f"n,,n={name},r=nonce".encode())
        fields = dict(part.split("=", 1) for part in step.data.decode().split(","))
        return base64.b64decode(fields["s"])

    assert users["ann"].scram is not None
    assert salt("ann") == users["ann"].scram.salt
    assert len(salt("nobody")) == len(salt("ann"))
    before = salt("nobody")
    users["zoe"] = User(None, ScramVerifier(b"s", b"k", b"\xff" * 32, 4096))
    assert salt("nobody") == before != salt("somebody")
