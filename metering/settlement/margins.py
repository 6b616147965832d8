"""What is earned in a month, by model, tenant, feature or project, beside what it really cost.

Pure. `cost` is what the ledger has: our prices, and corrections that were booked. `open` is what
comparisons with providers propose and nobody has booked yet, by the same shares as it would be. So
`incurred` (both together) is the best that is known, and everything is in proportion to it:
the capture ratio is what was billed over it, and the margin what is left of what was billed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metering.money import PPM

if TYPE_CHECKING:
    from metering.settlement.ledger.provider_books import Run

BY = ("model", "tenant", "feature", "project")

PLANS = "(plans)"
"""The row of what plans charge beside list prices, where that is no one's in particular."""

UNSHARED = "(reconciliation)"
"""The row of corrections that name no feature."""

_CORRECTION = {"model": "upstream", "tenant": "tenant", "project": "project"}
"""Where a correction says whose it is."""


@dataclass(frozen=True, slots=True)
class Earned:
    """What the ledger has under one name."""

    name: str
    requests: int
    sold_nano: int
    cost_nano: int


def chosen(runs: Iterable[Run], since: str, until: str) -> list[Run]:
    """The comparisons that speak for days from `since` to before `until`: of each provider the
    newest, and older ones for days that no newer one covers."""
    found: list[Run] = []
    for run in sorted(runs, key=lambda each: -each.id):
        others = [each for each in found if each.provider == run.provider]
        within = run.since < until and run.until > since
        if within and all(run.until <= o.since or run.since >= o.until for o in others):
            found.append(run)
    return sorted(found, key=lambda each: (each.provider, each.since))


def report(
    by: str, month: str, earned: Sequence[Earned], plans: Mapping[str, int], runs: Sequence[Run]
) -> dict[str, Any]:
    """All of it, as it is shown. `plans` is by tenant what its statement comes to beside the list
    prices; `runs` are those of `chosen`, of which only corrections within the month count."""
    sums: dict[str, list[int]] = {}
    for each in earned:
        found = sums.setdefault(each.name, [0, 0, 0, 0])
        for n, amount in enumerate((each.requests, each.sold_nano, each.cost_nano)):
            found[n] += amount
    for tenant, amount in plans.items():
        if amount:
            sums.setdefault(tenant if by == "tenant" else PLANS, [0, 0, 0, 0])[1] += amount
    for run in runs:
        for one in run.body["corrections"] if run.applied is None else ():
            if not one["day"].startswith(month):
                continue
            name = one[_CORRECTION[by]] if by in _CORRECTION else UNSHARED
            sums.setdefault(name, [0, 0, 0, 0])[3] += one["cost_nano"]
    rows = [_row(name, *sums[name]) for name in sorted(sums) if any(sums[name])]
    total = [sum(each[n] for each in sums.values()) for n in range(4)]
    return {
        "by": by,
        "rows": rows,
        "totals": {name: value for name, value in _row("", *total).items() if name != "name"},
        "drifting": [_drifting(run, row) for run in runs for row in _over(run)],
        "compared": [
            {
                "id": run.id,
                "provider": run.provider,
                "from": run.since,
                "until": run.until,
                "applied": run.applied is not None,
                "capture_ppm": run.body["totals"]["capture_ppm"],
                "true_margin_ppm": run.body["totals"]["true_margin_ppm"],
            }
            for run in runs
        ],
    }


def _row(name: str, requests: int, sold: int, cost: int, open_: int) -> dict[str, Any]:
    incurred = cost + open_
    return {
        "name": name,
        "requests": requests,
        "sold_nano": sold,
        "cost_nano": cost,
        "open_nano": open_,
        "incurred_nano": incurred,
        "margin_nano": sold - incurred,
        "margin_ppm": (sold - incurred) * PPM // sold if sold > 0 else None,
        "capture_ppm": sold * PPM // incurred if incurred > 0 else None,
    }


def _over(run: Run) -> list[Mapping[str, Any]]:
    return [row for row in run.body["models"] if row["is_over"]]


def _drifting(run: Run, row: Mapping[str, Any]) -> dict[str, Any]:
    """A model to look at, or to give up, as its comparison has it."""
    names = ("model", "booked_nano", "provider_nano", "drift_ppm", "true_margin_ppm")
    return {
        "provider": run.provider,
        "comparison": run.id,
        **{name: row[name] for name in names},
        "is_compensated": row["is_compensated"],
        "applied": run.applied is not None,
    }
