"""`tenants` and `limits` of the file to tenants, and the checks that keep their keys apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from metering.caps import ScopeKind
from metering.ids import is_id
from metering.money import PPM, to_ppm
from metering.steps import Steps
from metering.tenants import (
    ANY_FEATURE,
    DEFAULT_PROJECT,
    ApiKey,
    FeatureLimits,
    SpendLimits,
    Tenant,
)
from proxy.api_keys import key_sha256
from proxy.config_decode import Findings, suggest, suggest_model
from proxy.config_degrade import build_steps
from proxy.config_limits import (
    Known,
    WrittenCap,
    build_caps,
    build_pins,
    cap_nano,
    marks_ppm,
    overlaid,
)
from proxy.config_limits_shape import FeatureShape, KeyShape, TenantLimitsShape, TenantShape
from proxy.config_prepaid import balance_rules, build_prepaid
from proxy.config_shape import FileShape
from proxy.config_values import moment_ns
from proxy.config_yaml import Path
from proxy.settings import MintedKey

ID_RULE = "1 to 64 letters, digits, dots, dashes and underscores"


@dataclass(frozen=True)
class Tenants:
    """The tenants by id, the keys that `serve` has to make, and where each id was written."""

    by_id: Mapping[str, Tenant] = field(default_factory=dict)
    minted_keys: tuple[MintedKey, ...] = ()
    caps: tuple[tuple[str, WrittenCap], ...] = ()
    """Every tenant's id with each of its further caps."""
    places: Mapping[Path, Tenant] = field(default_factory=dict)


def build_tenants(shape: FileShape, findings: Findings) -> Tenants:
    """Every tenant whose id is sound; its own limits override those at the top, key by key."""
    top = _TopLimits(shape, findings)
    by_id: dict[str, Tenant] = {}
    minted: list[MintedKey] = []
    all_caps: list[tuple[str, WrittenCap]] = []
    hashes: dict[str, Path] = {}
    places: dict[Path, Tenant] = {}
    for index, written in enumerate(shape.tenants):
        path: Path = ("tenants", index)
        projects = _projects(written, path, findings)
        keys = _keys(written, path, projects, findings)
        _check_hashes(keys, hashes, findings)
        _check_models(shape, written, path, findings)
        _check_act_for(shape, written, path, findings)
        caps = top.caps(written, path)
        prepaid = build_prepaid((*path, "prepaid"), written.prepaid, findings)
        tenant = Tenant(
            id=written.id,
            name=written.name or written.id,
            limits=top.spend_limits(written, path),
            keys=tuple(key for _, key in keys),
            projects=projects,
            models=None if written.models is None else frozenset(written.models),
            feature_limits=top.feature_limits(written, path),
            cap_rules=(*(cap.rule for cap in caps), *balance_rules(prepaid)),
            project_steps=_project_steps(shape, written, path, findings),
            steps_in_shadow=top.degrade_mode(written) == "shadow",
            may_decline_steps=top.allows_no_degrade(written),
            targets_earn_credit=top.client_targets(written) == "credit",
            prepaid=prepaid,
            is_registered=findings.document.is_added(path),
        )
        places[path] = tenant
        all_caps += [(written.id, cap) for cap in caps]
        if check_id(tenant.id, (*path, "id"), "tenant", by_id, findings):
            by_id[tenant.id] = tenant
        minted += _minted(written, path, findings)
    return Tenants(by_id, tuple(minted), tuple(all_caps), places)


def check_id(text: str, path: Path, what: str, taken: Iterable[str], findings: Findings) -> bool:
    """Whether `text` can be the id of a new thing; a fault when it is malformed or taken."""
    if not is_id(text):
        findings.fault(path, f"{text!r} cannot be the id of a {what}", f"use {ID_RULE}")
        return False
    if text in taken:
        findings.fault(path, f"a {what} with the id {text!r} exists already", "ids are unique")
        return False
    return True


class _TopLimits:
    """`limits` at the top of the file, decoded once, and its merge with a tenant's own."""

    def __init__(self, shape: FileShape, findings: Findings) -> None:
        self._shape = shape
        self._findings = findings
        self._spend = self._spend_limits_at(("limits", "tenant"), shape.limits.tenant)
        self._check_features(("limits", "features"), shape.limits.features)
        known = _known(shape.tenants) if shape.tenants else Known()
        self._caps = build_caps(("limits", "caps"), shape.limits.caps, known, findings)

    def spend_limits(self, tenant: TenantShape, path: Path) -> SpendLimits:
        """The tenant's cap; a key it does not write is inherited, a null lifts the cap."""
        own_path = (*path, "limits", "tenant")
        own = self._spend_limits_at(own_path, tenant.limits.tenant)
        tree = self._findings.document.at(own_path)
        written = tree if isinstance(tree, dict) else {}
        names = {key: name for key, name in _SPEND_FIELDS.items() if key in written}
        merged = replace(self._spend, **{name: getattr(own, name) for name in names.values()})
        if "degrade" in written:  # the two ways to write steps do not mix
            merged = replace(merged, burst_threshold_ppm=PPM, fallback_model=None)
        elif _BURST & written.keys():
            merged = replace(merged, steps=None)
        if merged.fallback_model is not None and (
            merged.daily_cap_nano is None or merged.burst_threshold_ppm == PPM
        ):
            self._findings.warn(
                (*own_path, "fallback_model"),
                f"tenant {tenant.id!r} never falls back to {merged.fallback_model!r}",
                "set daily_cap, and burst_threshold below 1",
            )
        if merged.marks_ppm and merged.daily_cap_nano is None:
            self._findings.warn(
                (*own_path, "alert_at"),
                f"tenant {tenant.id!r} has no cap, so no share of it is told",
                "set daily_cap",
            )
        return merged

    def caps(self, tenant: TenantShape, path: Path) -> tuple[WrittenCap, ...]:
        """The tenant's further caps, those at the top that it does not replace included."""
        own = build_caps(
            (*path, "limits", "caps"), tenant.limits.caps, _known([tenant]), self._findings
        )
        return overlaid(self._caps, own)

    def feature_limits(self, tenant: TenantShape, path: Path) -> dict[str, FeatureLimits]:
        """Limits by feature, the most specific writer of each key first; see ANY_FEATURE."""
        top, own = self._shape.limits, tenant.limits
        self._check_features((*path, "limits", "features"), own.features)
        others = _overlaid(top.feature, own.feature)
        limits = {
            name: _overlaid(
                others,
                top.features.get(name, FeatureShape()),
                own.features.get(name, FeatureShape()),
            )
            for name in {**top.features, **own.features}
        }
        return {
            name: FeatureLimits(
                max_context_tokens=limit.max_context_tokens,
                cache_ttl_seconds=limit.cache_ttl_seconds,
                exclude_cache_from_billing=limit.exclude_cache_from_billing,
            )
            for name, limit in {ANY_FEATURE: others, **limits}.items()
            if limit != FeatureShape()
        }

    def degrade_mode(self, tenant: TenantShape) -> str:
        """Whether the tenant's steps are taken."""
        return tenant.limits.degrade_mode or self._shape.limits.degrade_mode

    def allows_no_degrade(self, tenant: TenantShape) -> bool:
        """Whether the tenant's requests may decline its steps."""
        own = tenant.limits.allow_no_degrade
        return self._shape.limits.allow_no_degrade if own is None else own

    def client_targets(self, tenant: TenantShape) -> str:
        """What a latency target in a request's header does."""
        return tenant.sla.client_targets or self._shape.sla.client_targets

    def _check_features(self, path: Path, features: Mapping[str, FeatureShape]) -> None:
        for name in features:
            check_id(name, (*path, name), "feature", (), self._findings)

    def _spend_limits_at(self, path: Path, written: TenantLimitsShape) -> SpendLimits:
        self._check_fallback_model((*path, "fallback_model"), written.fallback_model)
        tree = self._findings.document.at(path)
        if written.degrade is not None and isinstance(tree, dict) and _BURST & tree.keys():
            self._findings.fault(
                (*path, "degrade"),
                "stands beside burst_threshold and fallback_model, which are a step themselves",
                "write them as a step: {at: 0.8, to: MODEL}",
            )
        return SpendLimits(
            steps=build_steps(path, written, self._shape.models, self._findings),
            daily_cap_nano=cap_nano((*path, "daily_cap"), written.daily_cap, self._findings),
            burst_threshold_ppm=self._threshold_ppm(
                (*path, "burst_threshold"), written.burst_threshold
            ),
            fallback_model=written.fallback_model,
            marks_ppm=marks_ppm((*path, "alert_at"), written.alert_at, self._findings),
        )

    def _check_fallback_model(self, path: Path, name: str | None) -> None:
        if name is None or name in self._shape.models:
            return
        message, models = f"unknown model {name!r}", self._shape.models
        if models:
            self._findings.fault(path, message, suggest_model(name, models))
        else:  # a file of prices and limits only, published as a template, is fit to be checked
            self._findings.warn(path, message, "add it to `models`")

    def _threshold_ppm(self, path: Path, share: Decimal) -> int:
        if not 0 < share <= 1:
            self._findings.fault(
                path, f"must be above 0 and at most 1, not {share}", "80 % of the cap is 0.8"
            )
            return PPM
        try:
            return to_ppm(share)
        except ValueError as error:
            self._findings.fault(path, str(error))
            return PPM


_SPEND_FIELDS = {
    "daily_cap": "daily_cap_nano",
    "burst_threshold": "burst_threshold_ppm",
    "fallback_model": "fallback_model",
    "degrade": "steps",
    "alert_at": "marks_ppm",
}
_BURST = {"burst_threshold", "fallback_model"}


def _overlaid(*layers: FeatureShape) -> FeatureShape:
    """The layers merged, the later before the earlier; None leaves what lies below."""
    written = {
        key: value for layer in layers for key, value in vars(layer).items() if value is not None
    }
    return FeatureShape(**written)


def _projects(tenant: TenantShape, path: Path, findings: Findings) -> dict[str, str]:
    projects: dict[str, str] = {}
    for index, project in enumerate(tenant.projects):
        if check_id(project.id, (*path, "projects", index, "id"), "project", projects, findings):
            projects[project.id] = project.name or project.id
    projects.setdefault(DEFAULT_PROJECT, DEFAULT_PROJECT)
    return projects


def _project_steps(
    shape: FileShape, tenant: TenantShape, path: Path, findings: Findings
) -> dict[str, Steps]:
    found = {}
    for index, project in enumerate(tenant.projects):
        steps = build_steps((*path, "projects", index), project, shape.models, findings)
        if steps is not None:
            found[project.id] = steps
    return found


def _known(tenants: Sequence[TenantShape]) -> Known:
    """The keys and projects that a cap may name."""
    keys = frozenset(key.id for tenant in tenants for key in tenant.keys)
    projects = frozenset(project.id for tenant in tenants for project in tenant.projects)
    return Known({ScopeKind.KEY: keys, ScopeKind.PROJECT: projects | {DEFAULT_PROJECT}})


def _check_act_for(shape: FileShape, tenant: TenantShape, path: Path, findings: Findings) -> None:
    for number, key in enumerate(tenant.keys):
        known = [each.id for each in shape.tenants] if key.act_for else []
        if key.mint and key.act_for:
            findings.fault(
                (*path, "keys", number, "act_for"),
                "a minted key acts for its own tenant alone",
                "make one with `weir keys new` and write its sha256",
            )
        for index, name in enumerate(key.act_for):
            at = (*path, "keys", number, "act_for", index)
            if name not in known:
                findings.fault(at, f"unknown tenant {name!r}", suggest(name, known))


def _minted(tenant: TenantShape, path: Path, findings: Findings) -> list[MintedKey]:
    return [
        MintedKey(
            tenant.id,
            key.id,
            key.project or DEFAULT_PROJECT,
            build_pins((*path, "keys", index, "pin"), key.pin, findings),
        )
        for index, key in enumerate(tenant.keys)
        if key.mint
    ]


KEY_LENGTH_MIN = 24
"""Letters and digits of a key for 128 bits of chance, and some for its prefix."""


def _keys(
    tenant: TenantShape, path: Path, projects: Mapping[str, str], findings: Findings
) -> list[tuple[Path, ApiKey]]:
    """The keys that have a hash, each with the place it came from."""
    keys: list[tuple[Path, ApiKey]] = []
    ids: set[str] = set()
    for index, key in enumerate(tenant.keys):
        at = (*path, "keys", index)
        check_id(key.id, (*at, "id"), "key", ids, findings)
        ids.add(key.id)
        if key.project is not None and key.project not in projects:
            findings.fault(
                (*at, "project"),
                f"unknown project {key.project!r}",
                suggest(key.project, projects),
            )
        hashed = _sha256(key, at, findings)
        if hashed is not None:
            source, sha256 = hashed
            pins = build_pins((*at, "pin"), key.pin, findings)
            project, act_for = key.project or DEFAULT_PROJECT, frozenset(key.act_for)
            expires_ns = _expires_ns(key.expires_at, (*at, "expires_at"), findings)
            keys.append((source, ApiKey(key.id, sha256, project, pins, act_for, expires_ns)))
    return keys


def _expires_ns(text: str | None, path: Path, findings: Findings) -> int | None:
    try:
        return None if text is None else moment_ns(text)
    except ValueError:
        findings.fault(path, f"{text!r} is no RFC 3339 time", "write 2026-01-31T00:00:00Z")
        return None


def _sha256(key: KeyShape, path: Path, findings: Findings) -> tuple[Path, str] | None:
    forms = {"sha256": key.sha256 is not None, "key": key.key is not None, "mint": key.mint}
    given = [name for name, is_given in forms.items() if is_given]
    if len(given) != 1:
        if not any(findings.is_broken((*path, name)) for name in forms):
            found = " and ".join(given) if given else "none"
            findings.fault(path, f"needs exactly one of sha256, key and mint, has {found}")
        return None
    at = (*path, given[0])
    if key.key is not None:
        if not key.key:
            findings.fault(at, "the key is empty")
            return None
        if findings.document.literal(at):
            findings.secret(at, "a key in clear text", "write its sha256 (see `weir keys new`)")
        if len(key.key) < KEY_LENGTH_MIN:
            findings.warn(at, "a short key can be guessed", "make one with `weir keys new`")
        return at, key_sha256(key.key)
    if key.sha256 is not None:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", key.sha256):
            findings.fault(
                at, "a SHA-256 has 64 hexadecimal digits", "copy it from `weir keys new`"
            )
            return None
        return at, key.sha256.lower()
    return None


def _check_hashes(
    keys: list[tuple[Path, ApiKey]], seen: dict[str, Path], findings: Findings
) -> None:
    for path, key in keys:
        first = seen.setdefault(key.sha256, path)
        if first is not path:
            line = findings.document.places.get(first, (0, 0))[0]
            findings.fault(path, f"the same key stands on line {line}", "give each its own key")


def _check_models(shape: FileShape, tenant: TenantShape, path: Path, findings: Findings) -> None:
    for index, name in enumerate(tenant.models or ()):
        if name not in shape.models:
            findings.fault(
                (*path, "models", index),
                f"unknown model {name!r}",
                suggest_model(name, shape.models),
            )
