"""TLS contexts: what we show our clients, and whom we believe to be an upstream.

Rules: an upstream's certificate and name are always verified and there is no setting that skips
it; a private authority is named by its file. Nothing below TLS 1.2 is spoken.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from proxy.settings import Tls

_ALPN = ["http/1.1"]


class TlsFileError(Exception):
    """A file cannot be used; `field` is the key that names it, the message never its content."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def server_context(tls: Tls) -> ssl.SSLContext:
    """For the sockets we listen on; TlsFileError says which file is wrong, and how."""
    _readable("cert_file", tls.cert_file)
    _readable("key_file", tls.key_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.set_alpn_protocols(_ALPN)
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    except _EncryptedKeyError:
        raise TlsFileError("key_file", "is encrypted; write the key without a password") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError("key_file", "is not the key of the certificate") from None
        raise _misread(tls) from None
    return context


def upstream_context(ca_file: Path | None) -> ssl.SSLContext:
    """For connections to upstreams: the authorities in the file alone, or else the system's."""
    if ca_file is not None:
        _readable("ca_file", ca_file)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise TlsFileError("ca_file", "holds no certificate in PEM form") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_ALPN)
    return context


_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class _EncryptedKeyError(Exception):
    pass


def _no_password() -> str:
    raise _EncryptedKeyError


def _readable(field: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise TlsFileError(field, f"{path} cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL in it
        raise TlsFileError(field, "is not the path of a file") from None


def _misread(tls: Tls) -> TlsFileError:
    """Which of the two files is no PEM of its kind."""
    alone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        alone.load_verify_locations(tls.cert_file)
    except ssl.SSLError:
        return TlsFileError("cert_file", "holds no certificate in PEM form")
    return TlsFileError("key_file", "holds no private key in PEM form")
