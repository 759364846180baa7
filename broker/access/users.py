"""The users file: a line for each user and verifier, `name:verifier`, which never holds a password.

A verifier is an argon2 hash (`$argon2id$…`) or what SCRAM-SHA-256 needs
(`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, as in RFC 5803). A user may have one of each.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import NamedTuple

import argon2
from scramp import ScramMechanism

SCRAM = "SCRAM-SHA-256"
_NAME = re.compile(r"[^\s:#\x00-\x1f\x7f][^:\x00-\x1f\x7f]{0,254}")
_SCRAM_LINE = re.compile(r"SCRAM-SHA-256\$(\d{1,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_MECHANISM = ScramMechanism(SCRAM)

_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1)
"""OWASP's choice of least memory, 19 MiB: a gateway of 512 MB checks a few passwords at a time."""

ITERATIONS = 16_384
"""PBKDF2 rounds of a new SCRAM verifier: four times RFC 7677's least, still fast on a microcontroller."""


class UsersError(Exception):
    """What is wrong with a users file or a user, in words for the operator."""


class ScramVerifier(NamedTuple):
    """What a server keeps for SCRAM (RFC 5802, 3): it proves a password and gives none away."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


class User(NamedTuple):
    """A user's verifiers; at least one of them is there."""

    argon2: str | None = None
    scram: ScramVerifier | None = None


def check_name(name: str) -> None:
    """UsersError where this can be no user's name."""
    if not _NAME.fullmatch(name):
        raise UsersError(
            f"{name!r} can be no user name: allowed are 1 to 255 characters, no colon, not #, not blank"
        )


def make_user(password: str, scram: bool = False) -> User:
    """Verifiers of a password."""
    if not password:
        raise UsersError("the password is empty")
    verifier = ScramVerifier(*_MECHANISM.make_auth_info(password, ITERATIONS)) if scram else None
    return User(_HASHER.hash(password), verifier)


def verify(user: User | None, password: bytes) -> bool:
    """Whether it is the user's password; takes as long for a user that does not exist. Some 20 ms of work."""
    if user is not None and user.argon2 is None and user.scram is not None:
        return _verify_scram(user.scram, password)
    known = user.argon2 if user is not None and user.argon2 is not None else _nobody()
    try:
        return _HASHER.verify(known, password) and user is not None
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _verify_scram(verifier: ScramVerifier, password: bytes) -> bool:
    salted = hashlib.pbkdf2_hmac("sha256", password, verifier.salt, verifier.iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key)


@functools.cache
def _nobody() -> str:
    """A hash that takes as long to check as a user's, and that no password fits."""
    return _HASHER.hash(secrets.token_hex(16))


def read_users(path: Path) -> dict[str, User]:
    """The users of a file; UsersError names the line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsersError(f"{path}: cannot be read: {reason}; `geomq user add` makes one") from None
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            name, _, verifier = line.partition(":")
            try:
                check_name(name)
                users[name] = _with_verifier(users.get(name, User()), verifier.strip())
            except UsersError as error:
                raise UsersError(f"{path}:{number}: {error}") from None
    return users


def _with_verifier(user: User, text: str) -> User:
    if text.startswith("$argon2"):
        try:
            argon2.extract_parameters(text)
        except argon2.exceptions.InvalidHashError:
            raise UsersError("not an argon2 hash") from None
        if user.argon2 is not None:
            raise UsersError("a second argon2 hash of this user")
        return user._replace(argon2=text)
    match = _SCRAM_LINE.fullmatch(text)
    if match is None:
        raise UsersError(
            "neither an argon2 hash nor a SCRAM-SHA-256 verifier; `geomq user passwd` writes both"
        )
    if user.scram is not None:
        raise UsersError("a second SCRAM verifier of this user")
    iterations, *encoded = match.groups()
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in encoded)
    except binascii.Error:
        raise UsersError("the SCRAM verifier is not base64") from None
    if len(stored_key) != 32 or len(server_key) != 32 or not int(iterations):
        raise UsersError("not a SCRAM-SHA-256 verifier")
    return user._replace(scram=ScramVerifier(salt, stored_key, server_key, int(iterations)))


def write_users(path: Path, users: dict[str, User]) -> None:
    """Replace a users file at once, readable by its owner only; UsersError where that cannot be done."""
    lines = ["# Written by `geomq user`; name:verifier"]
    for name, user in sorted(users.items()):
        if user.argon2 is not None:
            lines.append(f"{name}:{user.argon2}")
        if user.scram is not None:
            salt, stored_key, server_key = (base64.b64encode(part).decode() for part in user.scram[:3])
            lines.append(f"{name}:{SCRAM}${user.scram.iterations}:{salt}${stored_key}:{server_key}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp gives the file to its owner only.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UsersError(f"{path}: cannot be written: {error.strerror or error}") from None
