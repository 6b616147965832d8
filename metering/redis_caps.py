"""`RedisCaps`: the `Caps` protocol over Redis. Builds keys and arguments, reads answers, no more.

What is decided is decided in `metering/lua/`, whose files say what goes in and out; the rules are
`metering.caps_model`. One call of each method is one round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metering.caps import (
    Candidate,
    Cap,
    CapState,
    Commit,
    CommitResult,
    Denial,
    DenialReason,
    Hold,
    HoldEndedError,
    Renewal,
    Reservation,
    Scope,
    ScopeKind,
    Stairs,
    Vector,
    Window,
)
from metering.caps_model import scopes_of, threshold_nano
from metering.events import payload_hash
from metering.ids import is_id, uuid7_ms
from metering.redis_keys import RedisKeys
from metering.redis_wire import RedisReplyError
from metering.scripts import Script, ScriptRunner, load_script

SCHEMA = 1
"""Layout of the keys the scripts write, stored in the meta hash."""

MARKER_TTL_MS = 3_600_000
"""How long a commit or release is remembered; beyond it the ledger's unique id decides."""

_LAYOUTS_MAX = 4_096


class CapsSetupError(Exception):
    """This Redis cannot be used as it is configured; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a tenant and its caps make of keys, arguments and the places of an answer."""

    caps: tuple[Cap, ...]
    epoch_key: str
    state_key: str
    holds_key: str
    stream_key: str
    open_key: str
    scope_keys: tuple[str, ...]
    scope_args: tuple[str, ...]
    cap_args: tuple[str, ...]
    places: tuple[tuple[int, int], ...]
    """Per cap, where held and spent begin, counted from now_ms."""


class RedisCaps:
    """Caps in Redis. `now_ms` overrides the server's clock in tests and is None otherwise."""

    def __init__(
        self,
        runner: ScriptRunner,
        keys: RedisKeys,
        *,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._runner = runner
        self._keys = keys
        self._now_ms = now_ms
        self._layouts: dict[tuple[str, int], Layout] = {}
        self._reserve = load_script("reserve")
        self._swap = load_script("swap")
        self._commit = load_script("commit")
        self._release = load_script("release")
        self._renew = load_script("renew")

    async def prepare(self) -> tuple[str, ...]:
        """Check the server and note what the data is written with; returns warnings.

        Raises CapsSetupError when keys could be evicted, or when the data there was written with
        another number of shards or another layout.
        """
        warnings = await self._check_eviction()
        meta = self._keys.meta
        for field, value in (("shards", self._keys.shards), ("schema", SCHEMA)):
            await self._runner.call("HSETNX", meta, field, value)
            there = int(await self._runner.call("HGET", meta, field))
            if there != value:
                raise CapsSetupError(
                    f"{meta} in Redis says {field} {there}, this proxy has {value}: "
                    f"set redis.shards to what the data has, use another redis.prefix, or migrate"
                )
        return warnings

    async def reserve(
        self,
        hold: Hold,
        candidates: Sequence[Candidate],
        *,
        owner: str,
        ttl_ms: int,
        facts: bytes = b"",
        stairs: Stairs | None = None,
    ) -> Reservation | Denial:
        """As `Caps.reserve`."""
        layout = self._layout(hold)
        reply = await self._run(
            self._reserve,
            [
                layout.epoch_key,
                layout.state_key,
                layout.holds_key,
                self._keys.done(hold.tenant, uuid7_ms(hold.exchange_id)),
                layout.open_key,
                *layout.scope_keys,
            ],
            [
                *self._head(hold, layout),
                *_admission(layout, candidates, stairs),
                owner,
                str(ttl_ms),
                facts,
            ],
        )
        return _admitted(hold, layout, reply)

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        """As `Caps.swap`."""
        layout = self._layout(hold)
        reply = await self._run(
            self._swap,
            [
                layout.epoch_key,
                layout.state_key,
                layout.holds_key,
                layout.open_key,
                *layout.scope_keys,
            ],
            [*self._head(hold, layout), *_admission(layout, [candidate], None)],
        )
        return _admitted(hold, layout, reply)

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        """As `Caps.commit`."""
        layout = self._layout(hold)
        args: list[str | bytes] = [
            *self._head(hold, layout),
            *_amounts(actual),
            str(MARKER_TTL_MS),
            str(len(events)),
        ]
        for body in events:
            args += (body, payload_hash(body))
        reply = await self._run(
            self._commit,
            [
                self._keys.done(hold.tenant, uuid7_ms(hold.exchange_id)),
                layout.holds_key,
                layout.stream_key,
                layout.open_key,
                *layout.scope_keys,
            ],
            args,
        )
        result = CommitResult(reply[0].decode())
        if result is CommitResult.REPEAT:
            return Commit(result)
        return Commit(result, _states(layout, reply[1:]))

    async def release(self, hold: Hold) -> None:
        """As `Caps.release`."""
        layout = self._layout(hold)
        await self._run(
            self._release,
            [
                self._keys.done(hold.tenant, uuid7_ms(hold.exchange_id)),
                layout.holds_key,
                layout.stream_key,
                layout.open_key,
                *layout.scope_keys,
            ],
            [*self._head(hold, layout), str(MARKER_TTL_MS)],
        )

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        """As `Caps.renew`."""
        layout = self._layout(hold)
        reply = await self._run(
            self._renew,
            [layout.holds_key, layout.open_key, *layout.scope_keys],
            [*self._head(hold, layout), str(ttl_ms), checkpoint or b""],
        )
        return Renewal(is_held=bool(reply))

    async def _run(self, script: Script, keys: list[str], args: Sequence[str | bytes]) -> Any:
        """The one place where an error of the scripts gets its name."""
        try:
            return await self._runner.eval(script, keys, args)
        except RedisReplyError as error:
            if error.code == "BADARG":
                raise ValueError(str(error)) from None
            if error.code == "ENDED":
                raise HoldEndedError(str(error)) from None
            raise

    def _head(self, hold: Hold, layout: Layout) -> tuple[str, ...]:
        now = "" if self._now_ms is None else str(self._now_ms())
        return (now, hold.tenant, hold.exchange_id, *layout.scope_args)

    def _layout(self, hold: Hold) -> Layout:
        """Hashing a tuple of caps costs more than building its keys; its identity costs nothing.

        The layout keeps its caps alive, so an id in the table cannot come to mean other caps.
        """
        key = (hold.tenant, id(hold.caps))
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= _LAYOUTS_MAX:
                self._layouts.clear()
            layout = self._layouts[key] = layout_of(self._keys, hold.tenant, hold.caps)
        return layout

    async def _check_eviction(self) -> tuple[str, ...]:
        try:
            replies = await self._runner.call_each("CONFIG", "GET", "maxmemory-policy")
        except RedisReplyError as error:
            return (f"cannot check that maxmemory-policy is noeviction: {error}",)
        for reply in replies:
            policy = reply[1].decode() if len(reply) > 1 else "unknown"
            if policy != "noeviction":
                raise CapsSetupError(
                    f"maxmemory-policy is {policy}: Redis would forget spend to make room; "
                    f"set it to noeviction on every server"
                )
        return ()


def layout_of(keys: RedisKeys, tenant: str, caps: tuple[Cap, ...]) -> Layout:
    """The keys and arguments that every script takes for these caps of a tenant."""
    scopes = scopes_of(caps)
    for name in (tenant, *(scope.id for scope in scopes[1:]), *(cap.window.label for cap in caps)):
        if not is_id(name):
            raise ValueError(f"{name!r} cannot be part of a Redis key")
    windows_of = {(cap.scope, cap.window) for cap in caps}
    if len(windows_of) != len({(scope, window.label) for scope, window in windows_of}):
        raise ValueError("two windows of one scope have the same label")
    scope_keys: list[str] = []
    scope_args = [str(len(scopes))]
    numbers: dict[tuple[Scope, str], tuple[int, int, int, int]] = {}
    at = 1  # 0 is now_ms
    for number, scope in enumerate(scopes, start=1):
        scope_keys += (keys.scope(tenant, scope), keys.scope_holds(tenant, scope))
        windows = {cap.window.label: cap.window for cap in caps if cap.scope == scope}
        scope_args += (_scope_name(scope), str(len(windows)))
        held_at, at = at, at + 3
        for place, window in enumerate(windows.values(), start=1):
            assert isinstance(window, Window)
            scope_args += (window.label, str(window.bucket_ms), str(window.buckets))
            numbers[scope, window.label] = (number, place, held_at, at)
            at += 4
    cap_args = [str(len(caps))]
    for cap in caps:
        number, place, _, _ = numbers[cap.scope, cap.window.label]
        limits = (cap.limit.nano, cap.limit.tokens, cap.limit.requests)
        cap_args += (str(number), str(place))
        cap_args += ("" if limit is None else str(limit) for limit in limits)
    places = tuple(numbers[cap.scope, cap.window.label][2:] for cap in caps)
    shard = keys.shard(tenant)
    return Layout(
        caps,
        keys.epoch(shard),
        keys.state(tenant),
        keys.holds(tenant),
        keys.stream(shard),
        keys.open_holds(shard),
        tuple(scope_keys),
        tuple(scope_args),
        tuple(cap_args),
        places,
    )


def _scope_name(scope: Scope) -> str:
    return scope.kind if scope.kind is ScopeKind.TENANT else f"{scope.kind}/{scope.id}"


def _amounts(vector: Vector) -> tuple[str, str, str]:
    return str(vector.nano), str(vector.tokens), str(vector.requests)


def _admission(layout: Layout, candidates: Sequence[Candidate], stairs: Stairs | None) -> list[str]:
    args = [*layout.cap_args, str(len(candidates))]
    for candidate in candidates:
        thresholds = [threshold_nano(candidate, cap, stairs) for cap in layout.caps]
        args += (candidate.upstream, *_amounts(candidate.vector))
        if any(threshold is not None for threshold in thresholds):
            args.append(str(len(thresholds)))
            args += ("" if threshold is None else str(threshold) for threshold in thresholds)
        else:
            args.append("0")
    return args


def _admitted(hold: Hold, layout: Layout, reply: list[bytes]) -> Reservation | Denial:
    if reply[0] == b"denied":
        return _denied(layout, reply)
    return Reservation(
        hold.exchange_id,
        int(reply[1]),
        _states(layout, reply[3:]),
        stage=int(reply[2]),
        repeat=reply[0] == b"repeat",
    )


def _denied(layout: Layout, reply: list[bytes]) -> Denial:
    reason = DenialReason(reply[1].decode())
    if len(reply) == 2 or not reply[2]:
        return Denial(reason)
    state = _states(layout, reply[5:])[int(reply[2]) - 1]
    reset_ms = int(reply[4]) if reply[4] else None
    return Denial(reason, replace(state, reset_ms=reset_ms), reply[3].decode())


def _states(layout: Layout, reply: list[bytes]) -> tuple[CapState, ...]:
    now_ms = int(reply[0])
    return tuple(
        CapState(
            cap,
            Vector(int(reply[spent]), int(reply[spent + 1]), int(reply[spent + 2])),
            Vector(int(reply[held]), int(reply[held + 1]), int(reply[held + 2])),
            now_ms,
            int(reply[spent + 3]) if reply[spent + 3] else None,
        )
        for cap, (held, spent) in zip(layout.caps, layout.places, strict=True)
    )
