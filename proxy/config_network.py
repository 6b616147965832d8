"""What the configuration says about connections: addresses of upstreams, TLS, the way out.

Certificates and keys are read here once, so that `weir config check` finds what `weir serve` would
stumble over. No message shows a URL that may hold a password, or anything from a key file.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path as FilePath
from urllib.parse import urlsplit

from proxy.config_decode import Findings
from proxy.config_shape import EgressShape, TlsShape
from proxy.config_yaml import Path
from proxy.egress import check_no_proxy, parse_forward_proxy
from proxy.settings import Egress, ForwardProxy, Tls
from proxy.tls import TlsFileError, server_context, upstream_context

_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)


def build_tls(written: TlsShape | None, findings: Findings, directory: FilePath) -> Tls | None:
    """The listener's TLS, its files read once."""
    if written is None:
        return None
    path: Path = ("server", "tls")
    tls = Tls(
        cert_file=directory / written.cert_file,
        key_file=directory / written.key_file,
        min_version=written.min_version,
    )
    if any(findings.is_broken((*path, name)) for name in ("cert_file", "key_file")):
        return tls
    try:
        server_context(tls)
    except TlsFileError as error:
        findings.fault((*path, error.field), str(error))
    return tls


def build_ca_file(
    path: Path, written: str | None, findings: Findings, directory: FilePath
) -> FilePath | None:
    """A file of authorities, read once."""
    if written is None or findings.is_broken(path):
        return None
    try:
        upstream_context(directory / written)
    except TlsFileError as error:
        findings.fault(path, str(error))
    return directory / written


def build_egress(written: EgressShape, findings: Findings, directory: FilePath) -> Egress:
    """The way out; an empty `proxy` is none, so that a variable may be left empty."""
    forward: ForwardProxy | None = None
    if written.proxy:
        try:
            forward = parse_forward_proxy(written.proxy)
        except ValueError as error:
            findings.fault(("egress", "proxy"), str(error))
        has_secret = forward is not None and forward.authorization is not None
        if has_secret and findings.document.literal(("egress", "proxy")):
            findings.warn(
                ("egress", "proxy"), "a credential in clear text", "write ${EGRESS_PROXY}"
            )
    for index, entry in enumerate(written.no_proxy):
        try:
            check_no_proxy(entry)
        except ValueError as error:
            findings.fault(("egress", "no_proxy", index), str(error))
    ca_file = build_ca_file(("egress", "ca_file"), written.ca_file, findings, directory)
    return Egress(forward, ca_file, written.no_proxy)


def check_base_url(path: Path, url: str, findings: Findings, *, example: str) -> None:
    """An http(s) URL whose host is a name or an address as people write it.

    `http://0x7f.1` and `http://2130706433` are this machine to the resolver and nobody to a
    reader; what an address is must be seen in the file.
    """
    if not url:
        return
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        sound = sound and not (parts.query or parts.fragment or parts.username)
        sound = sound and url.isascii() and url.isprintable() and " " not in url
        _ = parts.port  # raises when it is no number
    except ValueError:
        sound = False
        parts = urlsplit("")
    if not sound:
        findings.fault(
            path,
            "must be an http or https URL without credentials and query",
            f"write it like {example}",
        )
        return
    plain = _plain_host(parts.hostname or "")
    if plain is not None:
        findings.fault(path, "its host is an address in disguise", plain)


def _plain_host(host: str) -> str | None:
    """How to write a host that is an address by another spelling; None when it is fine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        is_number = _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2])
        return "write all four decimal numbers, or a name" if is_number else None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return f"write {address.ipv4_mapped}"
        if address.scope_id is not None:
            return "write it without a zone"
    return None
