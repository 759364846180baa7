"""SCRAM-SHA-256 as an MQTT 5 authentication method (RFC 5802, RFC 7677), by the scramp library."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping

from scramp import ScramException, ScramMechanism

from broker.access.users import ITERATIONS, SCRAM, ScramVerifier, User
from broker.ports import Step
from broker.protocol.constants import Reason

_MECHANISM = ScramMechanism(SCRAM)
_SECRET = secrets.token_bytes(32)


class ScramExchange:
    """One authentication: client-first, server-first, client-final, server-final.

    A user that does not exist is refused at the end only, as a wrong password is.
    """

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = users
        self._server = _MECHANISM.make_server(self._verifier_of)
        self._username = ""
        self._challenged = False
        self._failure = "not a message of SCRAM-SHA-256"

    def answer(self, data: bytes) -> Step:
        """See :class:`broker.ports.Exchange`."""
        if not data and not self._challenged:
            return Step(b"")
        try:
            return self._final(data.decode()) if self._challenged else self._first(data.decode())
        except (ScramException, UnicodeDecodeError, ValueError):
            # What a stranger sends may break the library's parsing in more ways than it names.
            return Step(b"", reason=Reason.NOT_AUTHORIZED, username=self._username or None, why=self._failure)

    def _first(self, text: str) -> Step:
        self._challenged = True
        self._server.set_client_first(text)
        return Step(self._server.get_server_first().encode())

    def _final(self, text: str) -> Step:
        self._failure = "wrong password, or a user without a SCRAM verifier"
        self._server.set_client_final(text)
        return Step(self._server.get_server_final().encode(), True, username=self._username)

    def _verifier_of(self, saslname: str) -> ScramVerifier:
        username = self._username = saslname.replace("=2C", ",").replace("=3D", "=")
        user = self._users.get(username)
        if user is not None and user.scram is not None:
            return user.scram
        # As long as a real one, and the same at each try, also after a restart, so that it does not tell who exists;
        # keys that nothing fits.
        salt = hmac.digest(self._secret(), username.encode(), "sha256")
        return ScramVerifier(salt, secrets.token_bytes(32), secrets.token_bytes(32), ITERATIONS)

    def _secret(self) -> bytes:
        """What nobody outside knows, and that stays while users come and go: the least of their keys."""
        keys = [user.scram.server_key for user in self._users.values() if user.scram is not None]
        return min(keys, default=_SECRET)
