"""`RedisCaps`: the `Caps` protocol over Redis. Builds keys and arguments, reads answers, no more.

What is decided is decided in `metering/lua/`, whose files say what goes in and out; the rules are
`metering.caps_model`. One call of each method is one round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from metering import clock
from metering.caps import (
    Candidate,
    Commit,
    CommitResult,
    Denial,
    DenialReason,
    Hold,
    HoldEndedError,
    Looked,
    Renewal,
    Reservation,
    Scope,
    Stairs,
    Vector,
)
from metering.events import payload_hash
from metering.ids import uuid7_ms
from metering.redis_keys import RedisKeys
from metering.redis_layout import (
    Layout,
    Layouts,
    admission_args,
    amount_args,
    stairs_args,
    states_of,
    stop_args,
)
from metering.redis_look import look_in_redis
from metering.redis_wire import RedisReplyError
from metering.scripts import Script, ScriptRunner, load_script

SCHEMA = 1
"""Layout of the keys the scripts write, stored in the meta hash."""

MARKER_TTL_MS = 3_600_000
"""How long a commit or release is remembered; beyond it the ledger's unique id decides."""


class CapsSetupError(Exception):
    """This Redis cannot be used as it is configured; the message says what to change."""


class RedisCaps:
    """Caps in Redis. `now_ms` overrides the server's clock in tests and is None otherwise.

    `local_ms` is the clock of this process, by which it says which day, week or month it is.
    """

    def __init__(
        self,
        runner: ScriptRunner,
        keys: RedisKeys,
        *,
        now_ms: Callable[[], int] | None = None,
        local_ms: Callable[[], int] = clock.now_ms,
    ) -> None:
        self._runner = runner
        self._keys = keys
        self._now_ms = now_ms
        self._local_ms = local_ms
        self._layouts = Layouts(keys)
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
        runs: bool = False,
    ) -> Reservation | Denial:
        """As `Caps.reserve`."""
        layout = self._layout(hold)
        reply = await self._run(
            self._reserve,
            [
                layout.tenant.epoch,
                layout.tenant.state,
                layout.tenant.holds,
                self._keys.done(hold.tenant, uuid7_ms(hold.exchange_id)),
                layout.tenant.open,
                layout.tenant.notes,
                *layout.scope_keys,
            ],
            [
                *self._head(hold, layout),
                *admission_args(hold, layout, candidates),
                *stairs_args(stairs),
                owner,
                str(ttl_ms),
                facts,
                str(int(runs)),
            ],
        )
        return _admitted(hold, layout, reply)

    async def look(
        self, hold: Hold, candidates: Sequence[Candidate], *, stairs: Stairs | None = None
    ) -> Looked:
        """As `Caps.look`."""
        now_ms = None if self._now_ms is None else self._now_ms()
        return await look_in_redis(
            self._runner, self._keys, hold, candidates, stairs, now_ms=now_ms
        )

    async def swap(self, hold: Hold, candidate: Candidate) -> Reservation | Denial:
        """As `Caps.swap`."""
        layout = self._layout(hold)
        reply = await self._run(
            self._swap,
            [
                layout.tenant.epoch,
                layout.tenant.state,
                layout.tenant.holds,
                layout.tenant.open,
                *layout.scope_keys,
            ],
            [
                *self._head(hold, layout),
                *admission_args(hold, layout, [candidate]),
                candidate.facts,
            ],
        )
        return _admitted(hold, layout, reply)

    async def commit(self, hold: Hold, actual: Vector, events: Sequence[bytes]) -> Commit:
        """As `Caps.commit`."""
        layout = self._layout(hold)
        args: list[str | bytes] = [
            *self._head(hold, layout),
            *layout.shape.mark_args,
            *amount_args(actual),
            str(MARKER_TTL_MS),
            str(len(events)),
        ]
        for body in events:
            args += (body, payload_hash(body))
        reply = await self._run(
            self._commit,
            [
                self._keys.done(hold.tenant, uuid7_ms(hold.exchange_id)),
                layout.tenant.holds,
                layout.tenant.stream,
                layout.tenant.open,
                layout.tenant.notes,
                *layout.scope_keys,
            ],
            args,
        )
        result = CommitResult(reply[0].decode())
        if result is CommitResult.REPEAT:
            return Commit(result)
        return Commit(result, states_of(layout, reply[1:]))

    async def release(self, hold: Hold) -> None:
        """As `Caps.release`."""
        layout = self._layout(hold)
        await self._run(
            self._release,
            [
                self._keys.done(hold.tenant, uuid7_ms(hold.exchange_id)),
                layout.tenant.holds,
                layout.tenant.stream,
                layout.tenant.open,
                *layout.scope_keys,
            ],
            [*self._head(hold, layout), str(MARKER_TTL_MS)],
        )

    async def renew(self, hold: Hold, *, ttl_ms: int, checkpoint: bytes | None = None) -> Renewal:
        """As `Caps.renew`."""
        layout = self._layout(hold)
        reply = await self._run(
            self._renew,
            [layout.tenant.holds, layout.tenant.open, layout.tenant.state, *layout.scope_keys],
            [*self._head(hold, layout), *stop_args(hold), str(ttl_ms), checkpoint or b""],
        )
        if not reply[1]:
            return Renewal(is_held=reply[0] == b"1")
        stop, scope = _stop(hold, reply[1], reply[2])
        return Renewal(reply[0] == b"1", stop, scope)

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
        windows = layout.shape.args_at(self._local_ms())
        return (now, hold.tenant, hold.exchange_id, *layout.names, *windows)

    def _layout(self, hold: Hold) -> Layout:
        return self._layouts.of(hold.tenant, hold.caps)

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


_FLAGGED = 6
"""Words of a denial by a flag: no states stand behind it."""


def _admitted(hold: Hold, layout: Layout, reply: list[bytes]) -> Reservation | Denial:
    if reply[0] == b"denied":
        return _denied(hold, layout, reply)
    return Reservation(
        hold.exchange_id,
        int(reply[1]),
        states_of(layout, reply[5:]),
        stage=int(reply[2]),
        vector=Vector(*map(int, reply[3].split())) if reply[3] else None,
        shadowed=tuple(map(int, reply[4].split())) if reply[4] else (),
        repeat=reply[0] == b"repeat",
    )


def _denied(hold: Hold, layout: Layout, reply: list[bytes]) -> Denial:
    reason = DenialReason(reply[1].decode())
    if len(reply) == 2:
        return Denial(reason)
    if len(reply) == _FLAGGED:
        return Denial(reason, scope=_stop(hold, reply[1], reply[5])[1])
    stage = int(reply[6])
    if not reply[2]:
        return Denial(reason, stage=stage)
    state = states_of(layout, reply[7:])[int(reply[2]) - 1]
    reset_ms = int(reply[4]) if reply[4] else None
    return Denial(reason, replace(state, reset_ms=reset_ms), reply[3].decode(), stage=stage)


def _stop(hold: Hold, flag: bytes, place: bytes) -> tuple[DenialReason, Scope | None]:
    """The flag, and whose it is."""
    return DenialReason(flag.decode()), hold.stops[int(place) - 1] if place else None
