"""`alerts`: where the worker's alerts go.

A type of sink is a file in `metering/settlement/sinks`, so that a new one needs no line here.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from metering.alert_sinks import ALERT_KINDS, DEFAULT_SINKS, SinkSettings, sink_types
from proxy.config_decode import Findings, suggest
from proxy.config_shape import AlertsShape, SinkShape
from proxy.config_yaml import Path

SECRET_MIN = 16
"""Characters of a secret: what is shorter can be tried out."""

TIMEOUT_MAX_S = 60


def build_sinks(written: AlertsShape, findings: Findings) -> tuple[SinkSettings, ...]:
    """The sinks, each sound or reported."""
    if written.sinks is None:
        return DEFAULT_SINKS
    found: list[SinkSettings] = []
    for index, each in enumerate(written.sinks):
        path: Path = ("alerts", "sinks", index)
        sink = _build(path, each, findings)
        if sink.name in [other.name for other in found]:
            findings.fault(path, "the same sink stands here twice", "put their kinds together")
        found.append(sink)
    if not found:
        findings.warn(
            ("alerts", "sinks"), "no sinks: nobody is told of anything", "add {type: log}"
        )
    return tuple(found)


def _build(path: Path, written: SinkShape, findings: Findings) -> SinkSettings:
    types = sink_types()
    if written.type not in types:
        findings.fault(
            (*path, "type"),
            f"unknown type {written.type!r}; there are {', '.join(types)}",
            suggest(written.type, types),
        )
    if written.type == "webhook":
        _check_webhook(path, written, findings)
    elif written.url is not None or written.secret is not None:
        findings.fault(path, f"a sink of type {written.type} has no url and no secret")
    if written.kinds == ():
        findings.fault((*path, "kinds"), "an empty list wants no alert", "leave it out for all")
    for index, kind in enumerate(written.kinds or ()):
        if kind not in ALERT_KINDS:
            hint = suggest(kind, ALERT_KINDS) or f"there are {', '.join(ALERT_KINDS)}"
            findings.fault((*path, "kinds", index), f"unknown kind of alert {kind!r}", hint)
    if not 0 < written.timeout_s <= TIMEOUT_MAX_S:
        findings.fault((*path, "timeout_s"), f"must be above 0 and at most {TIMEOUT_MAX_S}")
    return SinkSettings(
        type=written.type,
        url=written.url or "",
        secret=written.secret or "",
        kinds=None if written.kinds is None else frozenset(written.kinds),
        timeout_s=float(written.timeout_s),
    )


def _check_webhook(path: Path, written: SinkShape, findings: Findings) -> None:
    """Messages show neither the address (its path may be a credential) nor the secret."""
    for name, value in (("url", written.url), ("secret", written.secret)):
        variable = findings.document.unset.get((*path, name))
        if variable is not None:
            findings.fault((*path, name), f"environment variable {variable} is not set")
        elif not value:
            findings.fault((*path, name), f"a webhook needs its {name}")
    if written.url:
        check_url((*path, "url"), written.url, findings)
    if written.secret:
        if len(written.secret) < SECRET_MIN:
            findings.fault(
                (*path, "secret"),
                f"must be at least {SECRET_MIN} characters",
                "openssl rand -hex 32",
            )
        if findings.document.literal((*path, "secret")):
            findings.secret(
                (*path, "secret"), "a credential in clear text", "write ${ALERTS_SECRET}"
            )


def check_url(path: Path, url: str, findings: Findings, *, what: str = "alerts") -> None:
    """An address that requests of ours may be sent to; a private one is allowed."""
    example = "write it like https://alerts.example.com/weir"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        findings.fault(path, "is no URL", example)
        return
    if parts.scheme not in ("http", "https") or not host or parts.fragment:
        findings.fault(path, "must be an http or https URL without a fragment", example)
    elif parts.username is not None:
        findings.fault(path, "must not hold a user and password: requests are signed", example)
    elif parts.scheme == "http" and not _is_here(host):
        findings.warn(path, f"{what} travel in clear text over http", "use https")


def _is_here(host: str) -> bool:
    """Whether it is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
