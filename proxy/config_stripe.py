"""`stripe` of the file, and each tenant's customer there. What would bill wrongly is a fault."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from metering.plans import BUILT_IN, Meter
from metering.stripe_settings import StripeMeter, StripeMode, StripeSettings
from proxy.config_decode import Findings, suggest
from proxy.config_plans import build_meters, day_of
from proxy.config_shape import FileShape
from proxy.config_stripe_shape import StripeShape
from proxy.config_yaml import Path

DIMENSIONS = frozenset(
    {"model", "model_version", "provider", "project", "feature", "api_key", "status", "type"}
)
"""What a meter can be told apart by here: what the ledger's hourly sums know."""

_SECTION: Path = ("stripe",)
_CUSTOMER = re.compile(r"cus_[A-Za-z0-9_]{1,250}")
_KEY = re.compile(r"(sk|rk)_[A-Za-z0-9_]{8,}")
_WEBHOOK_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=_-]{16,}")
_EVENT_NAME_MAX = 100


def build_stripe(shape: FileShape, findings: Findings) -> StripeSettings | None:
    """What the worker tells Stripe; None without the section."""
    customers = _customers(shape, findings)
    if shape.stripe is None:
        for index, tenant in enumerate(shape.tenants):
            if tenant.stripe_customer is not None:
                where = ("tenants", index, "stripe_customer")
                findings.warn(where, "nothing is told to Stripe", "add a section stripe")
        return None
    written = shape.stripe
    told_elsewhere = Findings(findings.document)
    known = {**BUILT_IN, **build_meters(shape.meters, told_elsewhere)}
    if not customers and written.meters:
        findings.warn(_SECTION, "no tenant has a stripe_customer: nothing is told to Stripe")
    return StripeSettings(
        api_key=_api_key(written, findings),
        meters=_meters(written, known, findings),
        customers=customers,
        since_ns=_since_ns(written, findings),
        mode=StripeMode(written.mode),
        every_s=float(written.every_s),
        timeout_s=float(written.timeout_s),
        api_base=_api_base(written, findings),
        webhook_secrets=_webhook_secrets(written, findings),
    )


_EPOCH_DAY = 719_163
"""date(1970, 1, 1).toordinal()."""


def _since_ns(written: StripeShape, findings: Findings) -> int:
    if written.since is None:
        if written.meters:
            findings.fault((*_SECTION, "since"), "missing: from which day on usage is told")
        return 0
    since = day_of(written.since, (*_SECTION, "since"), findings)
    return (since.toordinal() - _EPOCH_DAY) * 86_400 * 1_000_000_000


def _webhook_secrets(written: StripeShape, findings: Findings) -> tuple[str, ...]:
    """Messages show none of them."""
    for index, secret in enumerate(written.webhook_secrets):
        path: Path = (*_SECTION, "webhook_secrets", index)
        variable = findings.document.unset.get(path)
        if variable is not None:
            findings.fault(path, f"environment variable {variable} is not set")
        elif not _WEBHOOK_SECRET.fullmatch(secret):
            findings.fault(path, "is no secret of a webhook of Stripe's", "they begin with whsec_")
        elif findings.document.literal(path):
            findings.secret(path, "a credential in clear text", "write ${STRIPE_WEBHOOK_SECRET}")
    return written.webhook_secrets


def _customers(shape: FileShape, findings: Findings) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, tenant in enumerate(shape.tenants):
        customer = tenant.stripe_customer
        if customer is None:
            continue
        path: Path = ("tenants", index, "stripe_customer")
        if not _CUSTOMER.fullmatch(customer):
            findings.fault(path, "is no id of a customer at Stripe", "they begin with cus_")
        if customer in found.values():
            findings.fault(
                path,
                "another tenant is this customer already, and totals would replace each other",
                "give each tenant a customer of its own",
            )
        found[tenant.id] = customer
    return found


def _api_key(written: StripeShape, findings: Findings) -> str:
    path: Path = (*_SECTION, "api_key")
    variable = findings.document.unset.get(path)
    if variable is not None:
        findings.fault(path, f"environment variable {variable} is not set")
    elif not _KEY.fullmatch(written.api_key):
        findings.fault(path, "is no secret or restricted key of Stripe", "sk_... or rk_...")
    elif findings.document.literal(path):
        findings.secret(path, "a credential in clear text", "write ${STRIPE_API_KEY}")
    return written.api_key


def _meters(
    written: StripeShape, known: Mapping[str, Meter], findings: Findings
) -> tuple[StripeMeter, ...]:
    found: list[StripeMeter] = []
    if not written.meters and not written.webhook_secrets:
        findings.fault((*_SECTION, "meters"), "no meters: nothing would be told")
    for index, each in enumerate(written.meters):
        path: Path = (*_SECTION, "meters", index)
        meter = known.get(each.meter)
        if meter is None:
            message = f"unknown meter {each.meter!r}"
            findings.fault((*path, "meter"), message, suggest(each.meter, known))
            continue
        if not meter.covers:
            findings.fault(
                (*path, "meter"),
                f"a meter of aggregation {meter.aggregation} has no sum by the hour",
                "count or sum",
            )
        for name in sorted(meter.where.keys() - DIMENSIONS):
            message = f"meter {each.meter!r} looks at {name}, which hourly sums do not know"
            findings.fault((*path, "meter"), message)
        if not 0 < len(each.event_name) <= _EVENT_NAME_MAX:
            findings.fault((*path, "event_name"), f"must be 1 to {_EVENT_NAME_MAX} characters")
        if each.event_name in [other.event_name for other in found]:
            findings.fault((*path, "event_name"), "stands here twice", "one meter for each name")
        found.append(StripeMeter(meter, each.event_name))
    return tuple(found)


def _api_base(written: StripeShape, findings: Findings) -> str:
    path: Path = (*_SECTION, "api_base")
    try:
        parts = urlsplit(written.api_base)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        findings.fault(path, "is no URL", "leave it out")
        return written.api_base
    if parts.scheme == "http" and host not in ("127.0.0.1", "localhost", "::1"):
        findings.fault(path, "the key would travel in clear text", "https://")
    elif parts.scheme not in ("http", "https") or not host:
        findings.fault(path, "must be an http or https URL", "leave it out")
    return written.api_base.rstrip("/")
