"""What is particular about some of amqtt's own plugins."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from amqtt.session import Session

LDAP = "amqtt.contrib.ldap"
JWT = "amqtt.contrib.jwt"
CERT = "amqtt.contrib.cert"

_LDAP_SIGNS = frozenset("*()\\\0")
"""What means something in a search filter (RFC 4515, 3): amqtt puts the user name into one as it is."""
_LARGEST_TOKEN = 1 << 14
_TIMEOUT = 5.0
"""Seconds for which a directory is waited for."""


def unfit_for_ldap(session: Session, login: bool) -> str:
    """Why amqtt's LDAP plugins must not see a client; empty where they may."""
    if not session.username:
        return "no user name"
    if _LDAP_SIGNS & set(session.username):
        return "the user name holds one of *()\\ or NUL, which a search filter would take for a pattern"
    if login and not session.password:
        # RFC 4513, 5.1.2: a bind with a name and no password succeeds at some servers, and proves nothing.
        return "the password is empty"
    return ""


def unfit_for_cert(session: Session) -> str:
    """Why amqtt's certificate plugin would fail on a client, which is no fault of the node; empty where it does not."""
    from cryptography import x509

    der = session.ssl_object.getpeercert(binary_form=True) if session.ssl_object else None
    if not der:
        return ""
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    except ValueError:
        return "its certificate cannot be read"
    return "" if names.get_values_for_type(x509.UniformResourceIdentifier) else "its certificate has no URI"


def stay_bound(plugin: Any) -> None:
    """Have one of amqtt's LDAP plugins survive a restart of the directory: its own connection is made once.

    Errors of python-ldap where the directory cannot be reached now.
    """
    import ldap
    from ldap.ldapobject import ReconnectLDAPObject

    config = plugin.config
    connection = ReconnectLDAPObject(config.server, retry_max=1, retry_delay=0.0)
    connection.set_option(ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3)
    connection.set_option(ldap.OPT_NETWORK_TIMEOUT, _TIMEOUT)
    connection.simple_bind_s(config.bind_dn, config.bind_password)
    plugin.conn.unbind_s()
    plugin.conn = connection


def expired_token(token: str, now: float) -> str:
    """That a JWT says it has expired, in words: amqtt's plugin does not tell why it refuses. Nothing is verified.

    ``now`` is in wall-clock seconds.
    """
    if len(token) > _LARGEST_TOKEN:
        return ""
    try:
        payload = token.split(".")[1]
        expires = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
        when = datetime.fromtimestamp(expires, UTC).isoformat(timespec="seconds")
    except Exception:
        # It comes from a stranger, and may be anything.
        return ""
    return f"the token's time was over at {when}" if expires < now else ""
