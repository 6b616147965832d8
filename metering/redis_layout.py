"""What caps make of keys and arguments, and where in an answer each of them stands.

Rules:
- Caps over runs, sessions and users are new objects with every request. What does not depend on
  their ids (the shape) is made once per set of windows and limits and found again by the identity
  of these; then only names and keys are left to make.
- The argument of a calendar window is the period that the caller's clock is in; the script moves on
  or back by one by its own.

Pure: the time is an argument, Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from metering.calendar_periods import period_at
from metering.cap_notes import marks_of
from metering.caps import (
    AnyWindow,
    CalendarWindow,
    Candidate,
    Cap,
    CapState,
    Hold,
    Scope,
    ScopeKind,
    Stairs,
    Vector,
)
from metering.caps_book import scopes_of
from metering.caps_choice import is_remembered
from metering.ids import is_id
from metering.redis_keys import RedisKeys
from metering.window import is_rate

_LAYOUTS_MAX = 2_048
_SHAPES_MAX = 1_024
_TENANTS_MAX = 16_384

_HEADS = {str(kind): f"{kind}/" for kind in ScopeKind}


@dataclass(slots=True)
class Shape:
    """What the caps of a request come to, whatever the ids of their scopes."""

    caps: tuple[Cap, ...]
    """Keeps alive the windows and limits by whose identity this is found."""
    count: str
    """How many scopes."""
    windows: tuple[tuple[AnyWindow, ...], ...]
    """Per scope."""
    cap_args: tuple[str, ...]
    mark_args: tuple[str, ...]
    places: tuple[tuple[int, int, bool], ...]
    """Per cap: where held and spent begin, counted from now_ms, and whether it is a rate."""
    window_args: tuple[str, ...] = ()
    until_ms: int = -1
    """When the first of its periods is over."""
    since_ms: int = 0

    def args_at(self, now_ms: int) -> tuple[str, ...]:
        """The windows as the scripts take them, with the periods of now."""
        if not self.since_ms <= now_ms < self.until_ms:
            self.window_args, self.since_ms, self.until_ms = _window_args(self.windows, now_ms)
        return self.window_args


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """The keys of a tenant that no scope has a part in, and the heads of those of its scopes."""

    epoch: str
    state: str
    holds: str
    stream: str
    open: str
    notes: str
    scopes: dict[str, tuple[str, str]]
    """By kind of scope: what comes before the id in the names of its hash and its zset."""


@dataclass(slots=True)
class Layout:
    """What a tenant and its caps make of keys, arguments and the places of an answer."""

    caps: tuple[Cap, ...]
    shape: Shape
    tenant: TenantKeys
    scope_keys: list[str]
    names: list[str]
    """How many scopes, and their names."""


@dataclass(slots=True)
class Layouts:
    """The layouts of a process. Hashing a tuple of caps costs more than building its keys; its
    identity costs nothing, and the layout keeps its caps alive, so that an id in the table cannot
    come to mean other caps."""

    keys: RedisKeys
    _found: dict[tuple[str, int], Layout] = field(default_factory=dict)
    _shapes: dict[tuple[int, ...], Shape] = field(default_factory=dict)
    _tenants: dict[str, TenantKeys] = field(default_factory=dict)

    def of(self, tenant: str, caps: tuple[Cap, ...]) -> Layout:
        """The layout of these caps of a tenant."""
        key = (tenant, id(caps))
        layout = self._found.get(key)
        if layout is None:
            if len(self._found) >= _LAYOUTS_MAX:
                self._found.clear()
            layout = self._found[key] = self._make(tenant, caps)
        return layout

    def _make(self, tenant: str, caps: tuple[Cap, ...]) -> Layout:
        keys = self._tenants.get(tenant)
        if keys is None:
            if len(self._tenants) >= _TENANTS_MAX:
                self._tenants.clear()
            keys = self._tenants[tenant] = _tenant_keys(self.keys, tenant)
        places: dict[tuple[str, str], int] = {(ScopeKind.TENANT, ""): 0}
        found: list[int] = []
        for cap in caps:
            scope = cap.scope
            place = places.setdefault((scope.kind, scope.id), len(places))
            found += (place, id(cap.window), id(cap.limit), id(cap.mode), id(cap.marks_ppm))
        by = tuple(found)
        shape = self._shapes.get(by)
        if shape is None:
            if len(self._shapes) >= _SHAPES_MAX:
                self._shapes.clear()
            shape = self._shapes[by] = _shape_of(caps)
        return _layout(keys, caps, places, shape)


def layout_of(keys: RedisKeys, tenant: str, caps: tuple[Cap, ...]) -> Layout:
    """One layout, for who needs it once."""
    return Layouts(keys).of(tenant, caps)


def _tenant_keys(keys: RedisKeys, tenant: str) -> TenantKeys:
    if not is_id(tenant):
        raise ValueError(f"{tenant!r} cannot be part of a Redis key")
    head, shard = keys.of(tenant), keys.shard(tenant)
    scopes = {
        str(kind): (f"{head}:c:{kind}:{tenant}/", f"{head}:z:{kind}:{tenant}/")
        for kind in ScopeKind
    }
    scopes["tenant"] = (f"{head}:c:tenant:{tenant}", f"{head}:z:tenant:{tenant}")
    return TenantKeys(
        keys.epoch(shard),
        keys.state(tenant),
        keys.holds(tenant),
        keys.stream(shard),
        keys.open_holds(shard),
        keys.notes(shard),
        scopes,
    )


def _layout(
    keys: TenantKeys, caps: tuple[Cap, ...], scopes: Iterable[tuple[str, str]], shape: Shape
) -> Layout:
    """`scopes` are kind and id, the tenant's first."""
    scope_keys: list[str] = []
    names = [shape.count]
    for kind, name in scopes:
        amounts, holds = keys.scopes[kind]
        if kind == ScopeKind.TENANT:
            names.append(kind)
        elif is_id(name):
            names.append(_HEADS[kind] + name)
        else:
            raise ValueError(f"{name!r} cannot be part of a Redis key")
        scope_keys += (amounts + name, holds + name)
    return Layout(caps, shape, keys, scope_keys, names)


def _shape_of(caps: tuple[Cap, ...]) -> Shape:
    scopes = scopes_of(caps)
    windows_of = {(cap.scope, cap.window) for cap in caps}
    if len(windows_of) != len({(scope, window.label) for scope, window in windows_of}):
        raise ValueError("two windows of one scope have the same label")
    numbers: dict[tuple[Scope, str], tuple[int, int, int, int]] = {}
    all_windows = []
    mark_args: list[str] = []
    marks, at = 0, 1  # 0 is now_ms
    for number, scope in enumerate(scopes, start=1):
        windows = {cap.window.label: cap.window for cap in caps if cap.scope == scope}
        all_windows.append(tuple(windows.values()))
        held_at, at = at, at + 3
        for place, window in enumerate(windows.values(), start=1):
            if not is_id(window.label):
                raise ValueError(f"{window.label!r} cannot be part of a Redis key")
            for mark in marks_of(caps, scope, window):
                marks += 1
                amounts = (number, place, mark.at_nano, mark.ppm, mark.limit_nano)
                mark_args += map(str, amounts)
            numbers[scope, window.label] = (number, place, held_at, at)
            at += 4
    cap_args = [str(len(caps))]
    for cap in caps:
        limit = cap.limit
        cap_args += map(str, numbers[cap.scope, cap.window.label][:2])
        cap_args.append(cap.mode)
        bounds = (limit.nano, limit.tokens, limit.requests, limit.concurrent)
        cap_args += ("" if bound is None else str(bound) for bound in bounds)
    return Shape(
        caps,
        str(len(scopes)),
        tuple(all_windows),
        tuple(cap_args),
        (str(marks), *mark_args),
        tuple((*numbers[cap.scope, cap.window.label][2:], is_rate(cap.window)) for cap in caps),
    )


def _window_args(
    windows: Sequence[Sequence[AnyWindow]], now_ms: int
) -> tuple[tuple[str, ...], int, int]:
    args: list[str] = []
    since_ms, until_ms = 0, 2**62
    for of_scope in windows:
        args.append(str(len(of_scope)))
        for window in of_scope:
            if isinstance(window, CalendarWindow):
                period = period_at(window, now_ms)
                since_ms = max(since_ms, period.start_ms)
                until_ms = min(until_ms, period.end_ms)
                edges = (period.number, period.start_ms, period.end_ms, period.next_end_ms)
                args += (window.label, "0", window.zone, *map(str, edges))
            else:
                args += (window.label, str(window.bucket_ms), str(window.buckets))
    return tuple(args), since_ms, until_ms


def amount_args(vector: Vector) -> tuple[str, str, str]:
    """A vector as arguments."""
    return str(vector.nano), str(vector.tokens), str(vector.requests)


def admission_args(hold: Hold, layout: Layout, candidates: Sequence[Candidate]) -> list[str]:
    """Caps, candidates and stops, as `admission.lua` takes them."""
    args = [*layout.shape.cap_args, str(len(candidates))]
    for candidate in candidates:
        elastic = candidate.elastic
        args += (candidate.upstream, *amount_args(candidate.vector), str(candidate.stage))
        if elastic is None:
            args.append("0")
        else:
            args += ("1", *amount_args(elastic.base))
            args += (str(elastic.rate_pico), str(elastic.tokens_min))
    return args + stop_args(hold)


def stop_args(hold: Hold) -> list[str]:
    """The scopes whose flags are looked at."""
    return [str(len(hold.stops)), *(_HEADS[scope.kind] + scope.id for scope in hold.stops)]


def stairs_args(stairs: Stairs | None) -> list[str]:
    """The stages, lowest first."""
    if stairs is None or not stairs.stages:
        return ["0"]
    name = stairs.name if is_remembered(stairs) else ""
    args = [str(len(stairs.stages)), name, str(stairs.dwell_ms), "1" if stairs.is_shadow else "0"]
    for stage in stairs.stages:
        args += (str(stage.enter_ppm), str(stage.leave_ppm))
    return args


def states_of(layout: Layout, reply: Sequence[bytes]) -> tuple[CapState, ...]:
    """The caps as an answer shows them, from its now_ms on."""
    now_ms = int(reply[0])
    return tuple(
        CapState(
            cap,
            Vector(int(reply[spent]), int(reply[spent + 1]), int(reply[spent + 2])),
            Vector(int(reply[held]), int(reply[held + 1]), 0 if rate else int(reply[held + 2])),
            now_ms,
            int(reply[spent + 3]) if reply[spent + 3] else None,
        )
        for cap, (held, spent, rate) in zip(layout.caps, layout.shape.places, strict=True)
    )
