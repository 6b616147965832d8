"""`limits.caps` of the file to rules of caps, and what is absurd in them.

A cap that would refuse everything, or never anything, is a fault that names its line: it was meant
otherwise. A tenant's own cap takes the place of the one at the top that has its scope, id and
window.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering.caps import (
    ROLLING_DAY,
    AnyWindow,
    CalendarUnit,
    CalendarWindow,
    CapMode,
    Limit,
    ScopeKind,
)
from metering.ids import is_id, scope_id
from metering.money import AMOUNT_NANO_MAX, format_cents, to_ppm, usd_to_nano
from metering.tenants import CapRule
from metering.window import ROLLING_MAX_S, ROLLING_MIN_S, rolling
from proxy.config_decode import Findings, suggest
from proxy.config_limits_shape import CapShape, LimitsShape, PinShape
from proxy.config_yaml import Path

USER_LENGTH_MAX = 256
"""Of a user's name, in characters; what a request says is cut there."""

SLICE_TOKENS_WARN = 4096
"""A stream takes an eighth of a slice or nothing, and looks for flags once in each."""

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_CALENDAR = [str(unit) for unit in CalendarUnit]
_STEPPED = (ScopeKind.SESSION, ScopeKind.RUN)
_COUNTS = ("tokens", "requests", "steps", "concurrent")


@dataclass(frozen=True)
class Known:
    """Ids that a cap may name; None where any will do (a file without tenants is a template)."""

    by_kind: Mapping[ScopeKind, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class WrittenCap:
    """A rule and where it stands in the file."""

    path: Path
    rule: CapRule

    @property
    def key(self) -> tuple[str, str | None, str]:
        """Caps with the same one are the same cap."""
        return self.rule.kind, self.rule.id, self.rule.slot


def build_caps(
    path: Path, written: Iterable[CapShape], known: Known, findings: Findings
) -> tuple[WrittenCap, ...]:
    """The sound rules of one list, in its order."""
    found: dict[tuple[str, str | None, str], WrittenCap] = {}
    for index, shape in enumerate(written):
        at = (*path, index)
        rule = _rule(at, shape, known, findings)
        if rule is None:
            continue
        cap = WrittenCap(at, rule)
        first = found.setdefault(cap.key, cap)
        if first is not cap:
            line = findings.document.places.get(first.path, (0, 0))[0]
            findings.fault(
                at,
                f"a cap of this scope, id and window stands on line {line} already",
                "write both limits into one cap",
            )
    return tuple(found.values())


def overlaid(top: tuple[WrittenCap, ...], own: tuple[WrittenCap, ...]) -> tuple[WrittenCap, ...]:
    """The tenant's caps: those at the top, each unless the tenant has its own, then its own."""
    theirs = {cap.key for cap in own}
    return (*(cap for cap in top if cap.key not in theirs), *own)


def marks_ppm(path: Path, shares: Iterable[Decimal], findings: Findings) -> tuple[int, ...]:
    """Shares of a cap as parts per million, ascending."""
    marks: list[int] = []
    for index, share in enumerate(shares):
        at = (*path, index)
        if not 0 < share <= 1:
            findings.fault(
                at, f"must be above 0 and at most 1, not {share}", "80 % of the cap is 0.8"
            )
            continue
        try:
            mark = to_ppm(share)
        except ValueError as error:
            findings.fault(at, str(error))
            continue
        if mark in marks:
            findings.fault(at, f"{share} stands here twice", "tell of each share once")
        else:
            marks.append(mark)
    return tuple(sorted(marks))


def cap_nano(path: Path, usd: Decimal | None, findings: Findings) -> int | None:
    """A money cap in nano-USD; None for none, and for what is a fault."""
    if usd is None:
        return None
    try:
        nano = usd_to_nano(usd)
    except ValueError as error:
        findings.fault(path, str(error))
        return None
    if nano < 0:
        findings.fault(path, f"a cap of {usd} USD is negative")
        return None
    if nano > AMOUNT_NANO_MAX:
        findings.fault(
            path,
            f"a cap is at most {format_cents(AMOUNT_NANO_MAX)} USD",
            "leave it out for none",
        )
        return None
    return nano


def check_output(limits: LimitsShape, findings: Findings) -> None:
    """What is held for answers whose length nobody said, and by how much streams grow."""
    usual, smallest = limits.default_output_tokens, limits.min_output_tokens
    if smallest > usual:
        findings.warn(
            ("limits", "min_output_tokens"),
            f"more than the {usual} tokens that a request without max_tokens holds: none of them "
            "shrinks near a cap, they are refused",
            "lower it, or raise limits.default_output_tokens",
        )
    if limits.stream_slice_tokens > SLICE_TOKENS_WARN:
        findings.warn(
            ("limits", "stream_slice_tokens"),
            f"more than {SLICE_TOKENS_WARN} tokens, a long answer: near a cap a stream ends where "
            f"less than {limits.stream_slice_tokens // 8} are left",
            "256 tokens are some seconds of a stream",
        )


def build_pins(path: Path, written: PinShape, findings: Findings) -> dict[ScopeKind, str]:
    """What a key is pinned to, by kind; a user as it is written, the others ids."""
    pins: dict[ScopeKind, str] = {}
    for name, value in vars(written).items():
        if value is None:
            continue
        kind = ScopeKind(name)
        if kind is ScopeKind.USER:
            if not is_user(value):
                findings.fault(
                    (*path, name),
                    f"a user is 1 to {USER_LENGTH_MAX} printable characters",
                )
                continue
        elif not _is_sound_id((*path, name), value, kind, findings):
            continue
        pins[kind] = value
    return pins


def is_user(text: str) -> bool:
    """Whether this can name a user: anything printable, not too long."""
    return 0 < len(text) <= USER_LENGTH_MAX and text.isprintable()


def _rule(path: Path, shape: CapShape, known: Known, findings: Findings) -> CapRule | None:
    """The rule, or None when something in it is a fault."""
    before = len(findings.faults)
    if findings.is_broken((*path, "scope")):
        return None
    kind = ScopeKind(shape.scope)
    limit = _limit(path, shape, kind, findings)
    window = _window(path, shape, limit, findings)
    name = _id(path, shape, kind, known, findings)
    marks = marks_ppm((*path, "alert_at"), shape.alert_at, findings)
    mode = CapMode(shape.mode)
    _check_marks(path, shape, findings)
    if window is None or len(findings.faults) > before:
        return None
    rule = CapRule(kind, window, limit, name, mode, marks)
    _check_daily(path, rule, findings)
    if limit.nano == 0 and name is None and mode is CapMode.ENFORCE:
        findings.warn(
            (*path, "usd"),
            f"no money for any {kind}: whatever has a price is refused",
            f"name the {kind} with id, or raise it" if kind is not ScopeKind.TENANT else "raise it",
        )
    return rule


def _limit(path: Path, shape: CapShape, kind: ScopeKind, findings: Findings) -> Limit:
    counts: dict[str, int] = {}
    for name in _COUNTS:
        count = getattr(shape, name)
        if count is None:
            continue
        if count < 1:
            findings.fault((*path, name), f"a cap of {count} {name} would refuse everything")
        elif count > AMOUNT_NANO_MAX:
            findings.fault((*path, name), f"is at most {AMOUNT_NANO_MAX}", "leave it out for none")
        counts[name] = count
    if "steps" in counts and kind not in _STEPPED:
        findings.fault(
            (*path, "steps"), f"a {kind} has no steps", "write `requests`, or scope: run"
        )
    elif "steps" in counts and "requests" in counts:
        findings.fault((*path, "steps"), "steps are requests: write one of the two")
    written = [
        *counts,
        *(["usd"] if shape.usd is not None else []),
        *(name for name in ("usd", *_COUNTS) if findings.is_broken((*path, name))),
    ]
    if not written:
        findings.fault(
            path, "a cap without a limit", "write usd, tokens, requests, steps or concurrent"
        )
    return Limit(
        nano=cap_nano((*path, "usd"), shape.usd, findings),
        tokens=counts.get("tokens"),
        requests=counts.get("steps", counts.get("requests")),
        concurrent=counts.get("concurrent"),
    )


def _is_bare_concurrency(limit: Limit) -> bool:
    return limit == Limit(concurrent=limit.concurrent)


def _window(path: Path, shape: CapShape, limit: Limit, findings: Findings) -> AnyWindow | None:
    at, zone_at = (*path, "window"), (*path, "timezone")
    text = shape.window
    if text in _CALENDAR:
        return _calendar(zone_at, text, shape.timezone, findings)
    if shape.timezone is not None:
        findings.fault(
            zone_at,
            "a rolling window begins nowhere, so it has no time zone",
            "write window: day, week or month",
        )
    if text is None:
        if not findings.is_broken(at) and not _is_bare_concurrency(limit):
            findings.fault(path, "a cap without a window", "write window: 24h, say, or month")
        return ROLLING_DAY  # where concurrency is counted does not matter
    seconds = _seconds(text)
    if seconds is None:
        findings.fault(
            at,
            f"{text!r} is no window",
            suggest(text, _CALENDAR) if text[:1].isalpha() else "write 1m to 30d, or month, say",
        )
        return None
    if not ROLLING_MIN_S <= seconds <= ROLLING_MAX_S:
        what = "has no length" if seconds == 0 else "is not within 1m and 30d"
        findings.fault(at, f"a window of {text} {what}", "write 1m to 30d, or month, say")
        return None
    return rolling(seconds)


def _seconds(text: str) -> int | None:
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    return None if match is None else int(match[1]) * _UNITS_S[match[2]]


def _calendar(path: Path, unit: str, zone: str | None, findings: Findings) -> CalendarWindow | None:
    name = "UTC" if zone is None else zone
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a folder, a name with dots, one that is not there
        findings.fault(
            path,
            f"unknown time zone {name!r}",
            "write an IANA name such as Europe/Paris; the system needs its tzdata",
        )
        return None
    return CalendarWindow(CalendarUnit(unit), name)


def _id(
    path: Path, shape: CapShape, kind: ScopeKind, known: Known, findings: Findings
) -> str | None:
    at, name = (*path, "id"), shape.id
    if name is None:
        return None
    if kind is ScopeKind.TENANT:
        findings.fault(
            at, "a cap of the tenant has no id", "write it under tenants[].limits.caps instead"
        )
        return None
    if kind is ScopeKind.USER:
        if not is_user(name):
            findings.fault(at, f"a user is 1 to {USER_LENGTH_MAX} printable characters")
        return scope_id(name)
    ids = known.by_kind.get(kind)
    if _is_sound_id(at, name, kind, findings) and ids is not None and name not in ids:
        findings.fault(at, f"unknown {kind} {name!r}", suggest(name, ids))
    return name


def _is_sound_id(path: Path, name: str, kind: ScopeKind, findings: Findings) -> bool:
    if is_id(name):
        return True
    findings.fault(
        path,
        f"{name!r} cannot be the id of a {kind}",
        "use 1 to 64 letters, digits, dots, dashes and underscores",
    )
    return False


def _check_marks(path: Path, shape: CapShape, findings: Findings) -> None:
    at = (*path, "alert_at")
    if shape.alert_at and shape.usd is None:
        findings.fault(at, "shares of what? the cap has no usd", "set usd, or leave it out")
    if shape.mode == "alert" and not shape.alert_at:
        findings.fault(
            (*path, "mode"),
            "a cap in mode alert without alert_at does nothing",
            "write alert_at: [0.8, 1.0]",
        )


def _check_daily(path: Path, rule: CapRule, findings: Findings) -> None:
    is_daily = rule.kind is ScopeKind.TENANT and rule.window == ROLLING_DAY
    if is_daily and rule.limit.nano is not None and rule.mode is CapMode.ENFORCE:
        findings.fault(
            (*path, "usd"),
            "the tenant's money within 24 hours has a key of its own",
            "write limits.tenant.daily_cap",
        )
