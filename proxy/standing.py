"""Under which caps a request stands: from tenant, key and labels to what its hold is made of.

Feature, user, session and run are the client's word, unless the key is pinned to one: then the pin
counts, and a request that says otherwise is refused. Nothing has to be made beforehand: a session
or run comes into being with its first request, within its tenant.

Pure but for a table of what was found before: the same input gets the same tuples, because
`RedisCaps` finds the keys of caps by their identity, and a request costs one look-up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metering.caps import Cap, Scope, ScopeKind
from metering.ids import is_id
from metering.tenant_caps import Labels, caps_under, scopes_of
from metering.tenants import ANY_FEATURE, ApiKey, Tenant
from proxy.errors import ContextTooLong, InvalidRequest, LabelPinned

KEPT_MAX = 4_096
"""Standings that are remembered; a user or run that comes back after so many others costs anew."""

USER_HEADER = "x-weir-user"

HEADERS: Mapping[ScopeKind, str] = {
    ScopeKind.FEATURE: "x-weir-feature",
    ScopeKind.USER: USER_HEADER,
    ScopeKind.SESSION: "x-weir-session",
    ScopeKind.RUN: "x-weir-run",
}

_HEADER_NAMES = tuple(HEADERS.values())

_USER_LENGTH_MAX = 256


_SAID_NOTHING = Labels()


@dataclass(frozen=True, slots=True)
class Standing:
    """`caps` in the order tenant, project, key, feature, user, session, run; the tenant's daily
    cap is always the first. `stops` are all scopes but the tenant's, capped or not."""

    caps: tuple[Cap, ...]
    stops: tuple[Scope, ...]


def refuse_contradictions(said_in: Callable[[str], Sequence[str]]) -> None:
    """Raises InvalidRequest for a label that is named twice and not alike: whoever is in front of
    us may have believed the other one. `said_in` gives every value of a header."""
    for name in HEADERS.values():
        said = said_in(name)
        if len(said) > 1 and len(set(said)) > 1:
            raise InvalidRequest(
                f"The header `{name}` comes {len(said)} times and says different things; send it "
                "once.",
                param=name,
            )


def labels_of(key: ApiKey, headers: Mapping[str, str], user: str | None) -> Labels:
    """The labels of a request, from its headers, the `user` of its body and the pins of its key.

    Raises InvalidRequest for a malformed one, LabelPinned for one that is not the key's.
    """
    said = Labels(*map(headers.get, _HEADER_NAMES))
    if said == _SAID_NOTHING:
        if not key.pins:
            return Labels(user=user) if user else _SAID_NOTHING
    else:
        for kind, value in zip(HEADERS, said, strict=True):
            if value is not None:
                _check(kind, value)
    if key.pins:
        return _pinned_to(key.pins, said, user)
    return said if said.user is not None else said._replace(user=user) if user else said


def _pinned_to(pins: Mapping[ScopeKind, str], said: Labels, user: str | None) -> Labels:
    found: list[str | None] = []
    for kind, value in zip(HEADERS, said, strict=True):
        pin = pins.get(kind)
        if pin is not None and value not in (None, pin):
            raise _contradicts(kind, HEADERS[kind])
        if pin is not None and kind is ScopeKind.USER and user not in (None, pin):
            raise _contradicts(kind, "user")
        others = user if kind is ScopeKind.USER else None
        found.append(pin if pin is not None else value if value is not None else others)
    return Labels(*found)


def check_context(tenant: Tenant, feature: str | None, prompt_tokens: int) -> None:
    """Raises ContextTooLong when the prompt is over the feature's `max_context_tokens`."""
    if not tenant.feature_limits:
        return
    limits = tenant.feature_limits.get(feature or ANY_FEATURE)
    limits = limits or tenant.feature_limits.get(ANY_FEATURE)
    if limits is None or limits.max_context_tokens is None:
        return
    if prompt_tokens > limits.max_context_tokens:
        raise ContextTooLong(
            f"This model's maximum context length is {limits.max_context_tokens} tokens. However, "
            f"your messages resulted in {prompt_tokens} tokens. Please reduce the length of the "
            "messages.",
            param="messages",
            metadata={
                "limit_source": "feature_max_context_tokens",
                "scope": f"feature:{feature}" if feature else "feature",
                "limit": limits.max_context_tokens,
                "remedy": "shorten the messages, or raise limits.feature.max_context_tokens",
            },
        )


class Standings:
    """What was found for whom; the oldest of `kept_max` entries make room."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._found: OrderedDict[_Asked, tuple[Tenant, Standing]] = OrderedDict()
        self._caps: OrderedDict[_Asked, tuple[Tenant, tuple[Cap, ...]]] = OrderedDict()

    def find(self, tenant: Tenant, key: ApiKey, labels: Labels) -> Standing:
        """The standing of a request; the same objects for the same input while they are kept.

        Tenants are told apart by identity, which costs nothing, and kept alive by their entries.
        """
        asked = (id(tenant), key.id, key.project, labels)
        found = self._found.get(asked)
        if found is None:
            stops = scopes_of(key.project, key.id, labels)
            standing = Standing(self._caps_under(tenant, key, labels, stops), stops)
            found = self._found[asked] = (tenant, standing)
            if len(self._found) > self._kept_max:
                self._found.popitem(last=False)
        return found[1]

    def _caps_under(
        self, tenant: Tenant, key: ApiKey, labels: Labels, stops: tuple[Scope, ...]
    ) -> tuple[Cap, ...]:
        """One tuple for all requests whose capped scopes are the same, whatever else they say."""
        kinds = {rule.kind for rule in tenant.cap_rules}
        counted = Labels(
            *(value if kind in kinds else None for kind, value in zip(HEADERS, labels, strict=True))
        )
        asked = (
            id(tenant),
            key.id if ScopeKind.KEY in kinds else "",
            key.project if ScopeKind.PROJECT in kinds else "",
            counted,
        )
        found = self._caps.get(asked)
        if found is None:
            found = self._caps[asked] = (tenant, caps_under(tenant, stops))
            if len(self._caps) > self._kept_max:
                self._caps.popitem(last=False)
        return found[1]


_Asked = tuple[int, str, str, Labels]


def _check(kind: ScopeKind, value: str) -> None:
    if kind is not ScopeKind.USER:
        is_sound, wanted = is_id(value), "1 to 64 letters, digits, dots, dashes or underscores"
    else:
        is_sound = 0 < len(value) <= _USER_LENGTH_MAX and value.isprintable()
        wanted = f"1 to {_USER_LENGTH_MAX} printable characters"
    if not is_sound:
        name = HEADERS[kind]
        raise InvalidRequest(f"The header `{name}` must be {wanted}.", param=name)


def _contradicts(kind: ScopeKind, name: str) -> LabelPinned:
    where = f"The field `{name}`" if name == "user" else f"The header `{name}`"
    return LabelPinned(
        f"{where} names another {kind} than the one this key is pinned to. Leave it out, "
        "or use another key.",
        param=name,
    )
