"""What the configuration says about connections: addresses of upstreams, TLS, the way out.

Certificates and keys are read here once, so that `weir config check` finds what `weir serve` would
stumble over. No message shows a URL that may hold a password, or anything from a key file.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path as FilePath
from urllib.parse import urlsplit

from metering.redis_url import AnyTarget, RedisTarget
from proxy.config_decode import Findings
from proxy.config_shape import EgressShape, ServerShape, TlsShape
from proxy.config_yaml import Path
from proxy.egress import check_no_proxy, parse_forward_proxy
from proxy.settings import Egress, ForwardProxy, Tls
from proxy.tls import TlsFileError, server_context, upstream_context

_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")
_NAME_MAX = 253
_LOCAL = frozenset({"127.0.0.1", "::1"})
"""What `localhost` stands for."""


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


def check_redis_files(target: AnyTarget) -> None:
    """ValueError when the authorities that are to vouch for Redis cannot be read."""
    like = target if isinstance(target, RedisTarget) else target.like
    if like.ca_file is not None:
        try:
            upstream_context(FilePath(like.ca_file))
        except TlsFileError as error:
            raise ValueError(str(error)) from error


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


def check_host(path: Path, host: str, findings: Findings) -> None:
    """One can listen there, as far as its writing tells."""
    if findings.is_broken(path):
        return
    if not host:
        findings.fault(path, "must not be empty", "0.0.0.0 listens everywhere")
    elif not _is_host(host):
        findings.fault(
            path,
            f"{host!r} is neither an address nor the name of a host",
            "write it without brackets"
            if host.startswith("[")
            else "write it like 127.0.0.1, ::1 or localhost, the port apart",
        )


def check_listening(server: ServerShape, findings: Findings) -> None:
    """Both addresses to listen on can be such, and do not take each other's port.

    A name is judged by how it is written alone: what it stands for is another machine's matter.
    """
    hosts = {"host": server.host, "metrics_host": server.metrics_host}
    for name, host in hosts.items():
        check_host(("server", name), host, findings)
    if server.metrics_port and server.metrics_host not in {*_LOCAL, "localhost"}:
        findings.warn(
            ("server", "metrics_host"),
            "whoever reaches the metrics port may read it, and it has no key",
            "leave it on 127.0.0.1, or let only your own network reach it",
        )
    is_one = server.port == server.metrics_port and not findings.is_broken(("server", "port"))
    if server.port and is_one and _overlap(*hosts.values()):
        findings.fault(
            ("server", "metrics_port"),
            f"{server.metrics_port} is server.port as well, on the same address",
            "give each a port of its own",
        )


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        return (
            len(text) <= _NAME_MAX
            and all(_LABEL.fullmatch(label) for label in labels)
            and not _NUMBER.fullmatch(labels[-1])  # an address, but not as it is written
        )
    return True


def _overlap(one: str, other: str) -> bool:
    """Whether a port on both is surely the same port; `::` takes IPv6 alone with us."""
    these, those = _addresses(one), _addresses(other)
    if these & those:
        return True
    return _takes_all(these, those) or _takes_all(those, these)


def _addresses(host: str) -> frozenset[str]:
    if host.lower().removesuffix(".") == "localhost":
        return _LOCAL
    try:
        return frozenset({str(ipaddress.ip_address(host))})
    except ValueError:
        return frozenset({host.lower().removesuffix(".")})


def _takes_all(wild: frozenset[str], others: frozenset[str]) -> bool:
    if wild == {"0.0.0.0"}:  # noqa: S104 - compared only
        return any(_version(each) == 4 for each in others)
    return wild == {"::"} and any(_version(each) == 6 for each in others)


def _version(text: str) -> int | None:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None


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
