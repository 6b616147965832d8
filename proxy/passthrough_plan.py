"""From a request for a path of the table to an errand: who is asked, on which terms. Pure.

Raises the refusal that stands in its way. Rules: a tenant under a money cap is served only where
something can be held and something has a price; a tenant with an allow-list of models gets no
other model by another path; the account's objects are asked for only by whom they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from metering.prices import PriceBook
from metering.tenants import Principal, Tenant
from proxy import vendors
from proxy.errors import (
    InvalidRequest,
    ModelNotAllowed,
    ModelNotFound,
    ProviderUnavailable,
    UnpricedModel,
)
from proxy.passthrough_bodies import REFERENCES, Sent
from proxy.passthrough_errors import PathNotAllowed, PathNotHeld
from proxy.passthrough_lists import Wanted, read_wanted
from proxy.passthrough_paths import QUERY, Lives, Row, Spend, Target
from proxy.passthrough_prices import Tariff, tariff
from proxy.passthrough_rules import Passthrough
from proxy.settings import Provider, Settings
from proxy.transport import Call
from routing.upstreams import Upstream

TYPES = frozenset({"openai", "simulator"})
"""Vendors that have OpenAI's paths at their `base_url`."""

REQUEST_HEADERS = ("Accept", "Content-Type", "OpenAI-Beta")
"""Of the client's headers, those that go on."""

_SENDABLE = re.compile(r"[\x20-\x7e]{0,500}")

_MODELS_UNREAD = frozenset({"batches", "evals", "realtime_secrets"})
"""Families whose requests name models in places that are not read."""

_CURSORS = frozenset({"after", "before"})


@dataclass(frozen=True, slots=True)
class Job:
    """Where it goes, by which prices it may be billed, and what is held for it."""

    provider: Provider
    tariff: Tariff
    hold_nano: int
    model: str | None = None
    """What the client calls the model, if it named one."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be relayed. `owner` is whose the objects are that it makes, None where the account
    is one tenant's alone; `wanted` is set where its list is paged through."""

    target: Target
    call: Call
    job: Job
    owner: str | None
    wanted: Wanted | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a path of the table."""

    target: Target
    sent: Sent
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Planned:
    """An errand, and what has to be the tenant's before it is sent: `ids`, and no more objects than
    `makes_max`."""

    errand: Errand
    ids: tuple[str, ...]
    makes_max: int | None


def plan_errand(
    settings: Settings, principal: Principal, asked: Asked, book: PriceBook | None = None
) -> Planned:
    """What to send where, at the prices of `book`; raises the refusal."""
    terms = settings.passthrough
    assert terms is not None  # whoever asks has looked
    tenant, row, sent = principal.tenant, asked.target.row, asked.sent
    check_query(asked.query)
    home = terms.provider_for(tenant.id)
    upstream = find_model(settings, tenant, row, sent.model, home)
    provider = usable(settings, upstream.provider if upstream and row.routes else home)
    owner = None if terms.is_own(tenant.id, provider.name) else tenant.id
    if owner is not None:
        _check_shared(row, sent, upstream, settings)
    count = sent.count(row.count, row.usual) if row.unit else 1
    prices = tariff(
        book or settings.prices, row, provider=provider.name, model=upstream, count=count
    )
    hold_nano = holdable(terms, tenant, row, prices) * count
    wanted = read_wanted(asked.query) if row.lists and owner is not None else None
    call = _call(provider, asked, upstream, has_query=wanted is None)
    return Planned(
        Errand(
            target=asked.target,
            call=call,
            job=Job(provider, prices, hold_nano, sent.model),
            owner=owner,
            wanted=wanted,
        ),
        ids=() if owner is None else _ids(asked, wanted),
        makes_max=terms.objects_max
        if owner is not None and row.makes and row.lives is Lives.KEPT
        else None,
    )


def check_query(query: str) -> None:
    """Raises InvalidRequest for a query that not everybody would read alike."""
    if not QUERY.fullmatch(query):
        raise InvalidRequest("The query has signs that are not relayed, or is too long.")


def find_model(
    settings: Settings, tenant: Tenant, row: Row, name: str | None, home: str
) -> Upstream | None:
    """Where the model leads that was named; None where none was.

    A model of ours is its first upstream that speaks OpenAI's paths; one that is not is asked of
    the account itself, for tenants that may use any model.
    """
    if name is None:
        if tenant.models is not None and row.method == "POST" and row.family in _MODELS_UNREAD:
            raise _not_allowed(tenant, f"{row.template}, which names models that are not read here")
        return None
    model = settings.models.get(name)
    if not tenant.may_use(name):
        raise _not_allowed(tenant, f"the model `{name[:100]}`")
    if model is None:
        return Upstream(home, name, name)
    for upstream in model.upstreams:
        provider = settings.providers[upstream.provider]
        if provider.type in TYPES and (row.routes or upstream.provider == home):
            if provider.unavailable and row.routes:
                continue
            return upstream
    raise InvalidRequest(
        f"The model `{name[:100]}` is not at the provider that {row.template} is relayed to.",
        param="model",
    )


def usable(settings: Settings, name: str) -> Provider:
    """The provider, if it can be called."""
    provider = settings.providers[name]
    if provider.unavailable:
        raise ProviderUnavailable(
            f"The provider `{name}` cannot be called: {provider.unavailable}."
        )
    return provider


def holdable(terms: Passthrough, tenant: Tenant, row: Row, prices: Tariff) -> int:
    """What is held per unit; raises the refusal where nothing can be and something must."""
    hold_nano = terms.hold_of(row)
    if not tenant.has_money_cap or row.spend is Spend.NOTHING:
        return hold_nano or 0
    if hold_nano is None:
        raise PathNotHeld(
            f"What {row.method} {row.template} spends cannot be held under the money cap of tenant "
            f"`{tenant.id}`. An operator can set `passthrough.paths.{row.family}.hold_usd`.",
        )
    if prices.flat is None:
        raise UnpricedModel(
            f"{row.method} {row.template} has no price; an operator can set "
            f"`passthrough.paths.{row.family}.price_usd`."
        )
    return hold_nano


def _check_shared(row: Row, sent: Sent, upstream: Upstream | None, settings: Settings) -> None:
    """What reads from the whole account is for nobody who shares it."""
    if row.family == "evals" and sent.sources:
        raise PathNotAllowed(
            f"A source of type `{sent.sources[0]}` reads what every tenant has stored in the "
            "account. Upload the rows as a file."
        )
    if (
        upstream is not None
        and upstream.public_name not in settings.models
        and (upstream.model.startswith("ft:") or ":ft-" in upstream.model)
    ):
        raise ModelNotFound(
            f"The model `{upstream.model[:100]}` does not exist here. A fine-tuned model is "
            "served once an operator has added it to `models`.",
            param="model",
        )


def _ids(asked: Asked, wanted: Wanted | None) -> tuple[str, ...]:
    """The ids that the request names in its path, body and query."""
    found = [*asked.target.owned, *asked.sent.references]
    for name, value in parse_qsl(asked.query):
        if name.removesuffix("[]") in REFERENCES:
            found.append(value)
    if wanted is not None and wanted.after is not None:
        found.append(wanted.after)
    return tuple(dict.fromkeys(found))


def _call(provider: Provider, asked: Asked, upstream: Upstream | None, *, has_query: bool) -> Call:
    row, sent = asked.target.row, asked.sent
    query = f"?{asked.query}" if asked.query and has_query else ""
    body = sent.raw if upstream is None else sent.with_model(upstream.model)
    return Call(
        url=f"{provider.base_url}/{asked.target.path}{query}",
        headers=sent_headers(provider, asked.headers, has_body=bool(body)),
        body=body,
        timeout_s=provider.timeout_s,
        connect_timeout_s=provider.connect_timeout_s,
        max_answer_s=provider.max_answer_s,
        ca_file=provider.ca_file,
        method=row.method,
        is_one_off=True,
    )


def sent_headers(provider: Provider, said: Mapping[str, str], *, has_body: bool) -> dict[str, str]:
    """The headers of the call: three of the client's, ours, and the provider's credential."""
    passed = {}
    for name in REQUEST_HEADERS:
        value = said.get(name)
        if value is None or (name == "Content-Type" and not has_body):
            continue
        if not _SENDABLE.fullmatch(value):
            raise InvalidRequest(f"The header `{name}` has signs that are not relayed.", param=name)
        passed[name] = value
    return {
        "Accept": "*/*",
        **passed,
        "Accept-Encoding": "identity",
        "User-Agent": "tokenweir",
        **vendors.vendor(provider.type).headers(provider),
    }


def _not_allowed(tenant: Tenant, what: str) -> ModelNotAllowed:
    return ModelNotAllowed(
        f"Tenant `{tenant.id}` may not use {what}; its allow-list is `tenants[].models` in the "
        "configuration.",
        param="model",
    )
