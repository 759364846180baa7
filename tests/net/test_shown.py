"""The certificate in a handshake message: whatever it holds, there are words for the log, or none."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from broker.net.shown import described
from tests.net.certificates import Authority

OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def message(version: int, *certificates: bytes) -> bytes:
    """A Certificate message."""

    def with_length(data: bytes) -> bytes:
        return len(data).to_bytes(3, "big") + data

    entries = b"".join(with_length(der) + (b"\0\0" if version == NEW else b"") for der in certificates)
    return b"\x0b" + with_length((b"\0" if version == NEW else b"") + with_length(entries))


def der(folder: Path, name: str) -> bytes:
    issued = Authority(folder).issue(name, into="x")
    return x509.load_pem_x509_certificate(issued.certificate.read_bytes()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_first_certificate_is_named(tmp_path: Path, version: int) -> None:
    first, second = der(tmp_path, "device-7"), der(tmp_path, "other")
    words = described((version, message(version, first, second)))
    assert words.startswith("subject 'CN=device-7', issuer 'CN=authority', serial ")
    assert described((version, message(version))) == ""
    assert described(None) == ""


@pytest.mark.parametrize("version", [OLD, NEW])
def test_names_cannot_forge_lines_nor_fill_them(tmp_path: Path, version: int) -> None:
    words = described((version, message(version, der(tmp_path, "a\nrefused: 'b"))))
    assert "\n" not in words
    assert r"CN=a\nrefused: 'b" in words


@given(version=st.sampled_from([OLD, NEW]), body=st.binary(max_size=400))
def test_any_message_is_words_or_nothing(version: int, body: bytes) -> None:
    assert isinstance(described((version, b"\x0b" + body)), str)


@given(data=st.data(), version=st.sampled_from([OLD, NEW]))
def test_any_damage_is_words_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, version: int
) -> None:
    whole = bytearray(message(version, DER[0] if DER else _make(tmp_path_factory.getbasetemp())))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert "\n" not in described((version, bytes(whole)))


DER: list[bytes] = []


def _make(folder: Path) -> bytes:
    DER.append(der(folder, "device"))
    return DER[0]
