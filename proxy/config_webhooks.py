"""`webhooks`: other systems that are told what happens here."""

from __future__ import annotations

from collections.abc import Sequence

from metering.ids import is_id
from metering.webhook_settings import EVENTS, WebhookEndpoint, WebhookFormat, read_secret
from proxy.config_alerts import check_url
from proxy.config_decode import Findings, suggest
from proxy.config_plans import day_of
from proxy.config_webhooks_shape import WebhookShape
from proxy.config_yaml import Path

_EPOCH_DAY = 719_163
"""date(1970, 1, 1).toordinal()."""


def build_webhooks(
    written: Sequence[WebhookShape], findings: Findings
) -> tuple[WebhookEndpoint, ...]:
    """The endpoints, each sound or reported. Messages show neither address nor secret."""
    found: list[WebhookEndpoint] = []
    for index, each in enumerate(written):
        path: Path = ("webhooks", index)
        if not is_id(each.name):
            findings.fault((*path, "name"), "must be an id: letters, digits, . _ - only")
        if each.name in [other.name for other in found]:
            findings.fault((*path, "name"), "stands here twice", "one endpoint for each name")
        found.append(_build(path, each, findings))
    return tuple(found)


def _build(path: Path, each: WebhookShape, findings: Findings) -> WebhookEndpoint:
    variable = findings.document.unset.get((*path, "url"))
    if variable is not None:
        findings.fault((*path, "url"), f"environment variable {variable} is not set")
    else:
        check_url((*path, "url"), each.url, findings, what="messages")
    if not each.events:
        findings.fault((*path, "events"), "an empty list wants nothing", ", ".join(EVENTS[:2]))
    for number, name in enumerate(each.events):
        if name not in EVENTS:
            hint = suggest(name, EVENTS) or f"there are {', '.join(EVENTS)}"
            findings.fault((*path, "events", number), f"unknown event {name!r}", hint)
    return WebhookEndpoint(
        name=each.name,
        url=each.url,
        key=_key((*path, "secret"), each.secret, findings),
        previous_key=None
        if each.previous_secret is None
        else _key((*path, "previous_secret"), each.previous_secret, findings),
        events=frozenset(each.events),
        format=WebhookFormat(each.format),
        since_ns=_since_ns((*path, "since"), each.since, findings),
        timeout_s=float(each.timeout_s),
        dead_after_s=each.dead_after_days * 86_400,
    )


def _key(path: Path, secret: str, findings: Findings) -> bytes:
    variable = findings.document.unset.get(path)
    if variable is not None:
        findings.fault(path, f"environment variable {variable} is not set")
        return b""
    try:
        key = read_secret(secret)
    except ValueError as error:
        findings.fault(path, str(error), "echo whsec_$(openssl rand -base64 32)")
        return b""
    if findings.document.literal(path):
        findings.secret(path, "a credential in clear text", "write ${WEBHOOK_SECRET}")
    return key


def _since_ns(path: Path, since: str | None, findings: Findings) -> int | None:
    if since is None:
        return None
    day = day_of(since, path, findings)
    return (day.toordinal() - _EPOCH_DAY) * 86_400 * 1_000_000_000
