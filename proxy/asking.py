"""From a request's headers and the rules to how its answer is looked for and kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metering.replies import RequestClaim
from proxy.attempts import Facts
from proxy.cache_rules import CacheRule, CacheSettings, rule_for, scope_of
from proxy.chat import ChatRequest
from proxy.price_asks import is_search_model
from proxy.reply_names import question_digest, repeat_name, reply_name, why_not_kept
from proxy.reply_wishes import CacheWishes, cache_wishes, idempotency_key
from proxy.settings import Provider

SIMULATOR = "simulator"


@dataclass(frozen=True, slots=True)
class Asking:
    """How one request stands to answers that are kept.

    `name` is that of its answers; `rule` and `name` are None where none is kept, `bypass` says why
    in a word, where some would be otherwise. `claim` is there for a client's key.
    """

    wishes: CacheWishes
    rule: CacheRule | None = None
    name: str | None = None
    bypass: str | None = None
    claim: RequestClaim | None = None

    @property
    def looks(self) -> bool:
        """Whether an answer may be there."""
        return self.name is not None and self.wishes.looks

    @property
    def stores(self) -> bool:
        """Whether its answer is to be kept for others."""
        return self.name is not None and self.wishes.stores

    @property
    def joins(self) -> bool:
        """Whether it may wait for another one that asks the same. What has a key of its client's
        has a claim to make first."""
        return self.looks and self.stores and self.claim is None

    @property
    def cache_status(self) -> str | None:
        """What its events say unless it is a hit; None where nothing is kept anyway."""
        if self.rule is None:
            return None
        return "miss" if self.looks else "bypass"


def places_of(own: Mapping[str, str], providers: Mapping[str, Provider]) -> dict[str, str]:
    """Where these upstreams are, by their labels: an account may come to be another one under the
    same name."""
    return {label: _address(providers[name]) for label, name in own.items()}


def _address(provider: Provider) -> str:
    if provider.type == SIMULATOR:
        return ""  # its port is another one after every start, and in every process
    options = [
        f"{name}={value}"
        for name, value in sorted(provider.options.items())
        if isinstance(value, str)  # secrets are no place
    ]
    return " ".join([provider.type, provider.base_url, *options])


def asking_of(
    cache: CacheSettings,
    facts: Facts,
    request: ChatRequest,
    places: Mapping[str, str],
    *,
    controls: Sequence[str],
    keys: Sequence[str],
) -> Asking | None:
    """How this request stands to kept answers; None where it does in no way, which is usual.

    `places` are the upstreams that may answer this very request, and where they are; `controls` and
    `keys` the values of `Cache-Control` and `Idempotency-Key`. Costs as much as writing the request
    down once.
    """
    key = idempotency_key(keys)
    wishes = cache_wishes(controls)
    principal = facts.principal
    tenant = principal.tenant
    rule = None
    if cache.is_used:
        rule = rule_for(cache, tenant, principal.key, facts.model_requested, facts.feature)
    if rule is None and key is None and not wishes.only_kept:
        return None
    claim = None
    if key is not None:
        scope = scope_of(cache, tenant, principal.key)
        claim = RequestClaim(
            tenant.id,
            repeat_name(key, scope, tenant=tenant.id, salt=cache.salt),
            question_digest(request, tenant=tenant.id, salt=cache.salt),
            facts.exchange_id,
        )
    if rule is None:
        return Asking(wishes, claim=claim)
    bypass = why_not_kept(request, rule.temperature_max)
    if bypass is None and any(map(is_search_model, places)):
        bypass = "acts_elsewhere"
    if bypass is not None or not (wishes.looks or wishes.stores):
        return Asking(wishes, rule, bypass=bypass or "no_store", claim=claim)
    upstreams = [f"{label} {where}" for label, where in places.items()]
    name = reply_name(request, upstreams, rule.scope, owner=rule.shelf.head, salt=cache.salt)
    return Asking(wishes, rule, name, claim=claim)
