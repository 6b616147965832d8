"""Things of the ledger and of Redis as rows: for `--json` and for the admin API alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from metering.clock import now_ns
from metering.ids import uuid7
from metering.money import format_usd
from metering.scope_names import scope_text
from metering.settlement.anomalies import is_waiting
from proxy.cli_times import rfc3339

if TYPE_CHECKING:
    from metering.flags import Flag
    from metering.job_settings import JobSettings
    from metering.plans import Plan
    from metering.settlement.credits import Standing
    from metering.settlement.ledger.credit_books import Balance
    from metering.settlement.ledger.dead_letters import DeadLetter
    from metering.settlement.ledger.invoice_books import Issued
    from metering.settlement.ledger.job_books import Run
    from metering.settlement.ledger.plan_books import Closed
    from metering.settlement.ledger.reviews import Item
    from proxy.settings import Settings


def letter_row(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter, without its bytes."""
    resolved_at = None if letter.resolved_at is None else rfc3339(letter.resolved_at)
    return {
        "id": letter.id,
        "received_at": rfc3339(letter.received_at),
        "shard": letter.shard,
        "stream_id": letter.stream_id,
        "bytes": len(letter.raw),
        "deliveries": letter.deliveries,
        "reason": letter.reason,
        "outcome": letter.outcome,
        "event_id": letter.event_id,
        "resolved_at": resolved_at,
        "resolved_by": letter.resolved_by,
    }


def review_row(item: Item) -> dict[str, Any]:
    """An item of the review queue."""
    finding = item.finding
    return {
        "id": item.id,
        "tenant": item.tenant,
        "api_key_id": item.api_key_id or None,
        "mode": item.mode.value,
        "cause": finding.cause.value,
        "since": rfc3339(item.since_min * 60_000_000_000),
        "seen_nano": finding.seen_nano,
        "usual_nano": finding.usual_nano,
        "bound_nano": finding.bound_nano,
        "judged_by": finding.judged_by,
        "waits": is_waiting(item.case),
        "steps": {step.value: rfc3339(at) for step, at in item.steps.items()},
        "decisions": [
            {
                "verdict": each.verdict.value,
                "level_nano": each.level_nano,
                "by": each.by,
                "reason": each.reason,
                "at": rfc3339(each.at_ns),
            }
            for each in item.decisions
        ],
    }


def grant_row(found: Standing, at_ns: int) -> dict[str, Any]:
    """A grant, and what became of it until then."""
    made, standing = found.grant, found.seen_at(at_ns)
    return {
        "id": made.id,
        "tenant": made.tenant,
        "kind": made.kind,
        "priority": made.priority,
        "usd": format_usd(made.amount_nano),
        "left_usd": format_usd(standing.left_nano),
        "drawn_usd": format_usd(standing.drawn_nano),
        "expired_usd": format_usd(standing.expired_nano),
        "taken_usd": format_usd(standing.taken_nano),
        "owed_usd": format_usd(standing.owed_nano),
        "from": rfc3339(made.effective_at),
        "expires": None if made.expires_at is None else rfc3339(made.expires_at),
        "source": made.source,
        "note": made.note,
    }


def balance_row(found: Balance) -> dict[str, Any]:
    """What a tenant has left."""
    return {
        "tenant": found.tenant,
        "left_usd": format_usd(found.left_nano),
        "granted_usd": format_usd(found.granted_nano),
        "spent_usd": format_usd(found.spent_nano),
        "expired_usd": format_usd(found.expired_nano),
    }


def entry_row(row: dict[str, Any]) -> dict[str, Any]:
    """One entry of a grant."""
    return {
        "number": row["number"],
        "kind": row["kind"],
        "usd": format_usd(row["amount_nano"]),
        "owed_usd": format_usd(row["owed_nano"]),
        "event": row["event_id"],
        "booked_at": rfc3339(row["booked_at"]),
        "transaction": row["idem_key"],
    }


def new_grant_id() -> str:
    """A name for a grant that was given none."""
    return f"gr-{uuid7(now_ns() // 1_000_000, os.urandom(10))}"


def plan_row(plan: Plan, kept_in: list[str], settings: Settings) -> dict[str, Any]:
    """A version of a plan, where it is kept, and who has it."""
    return {
        "plan": plan.id,
        "name": plan.name,
        "version": plan.version,
        "effective_from": plan.effective_from.isoformat(),
        "charges": [component.id for component in plan.components],
        "tenants": sorted(
            tenant
            for tenant, assigned in settings.assignments.items()
            if any(each.plan == plan.id for each in assigned)
        ),
        "kept_in": kept_in,
    }


def plan_versions(
    written: Iterable[Plan], kept: Mapping[str, Plan]
) -> list[tuple[Plan, list[str]]]:
    """Every version with where it stands, in the order of plans and dates."""
    ours = {plan.version: plan for plan in written}
    found = [
        (plan, [name for name, held in (("file", ours), ("ledger", kept)) if version in held])
        for version, plan in {**kept, **ours}.items()
    ]
    return sorted(found, key=lambda each: (each[0].id, each[0].effective_from, each[0].version))


def closed_row(tenant: str, found: Closed) -> dict[str, Any]:
    """A month that was closed."""
    body = found.body
    return {
        "tenant": tenant,
        "total": body["total"],
        "total_nano": body["total_nano"],
        "list_nano": body["list_nano"],
        "event_count": body["event_count"],
        "sha256": found.sha256,
        "is_new": found.is_new,
    }


def invoice_row(found: Issued) -> dict[str, Any]:
    """An invoice that was issued."""
    document = found.document
    names = ("tenant", "period", "correction", "corrects", "issued_on", "due_on", "currency")
    return {
        "number": found.number,
        **{name: document[name] for name in names},
        "total": document["total"],
        "total_nano": document["total_nano"],
        "due": document["due"],
        "lines": len(document["lines"]),
        "sha256": found.sha256,
        "is_new": found.is_new,
    }


def job_row(job: JobSettings, last: list[Run], now_ns: int) -> dict[str, Any]:
    """A job, when it comes next, and its last run."""
    return {
        "job": job.name,
        "kind": job.kind.value,
        "schedule": job.cron.fields,
        "timezone": job.cron.timezone,
        "catch_up": job.catch_up.value,
        "next_ms": _ms(job.cron.next(now_ns)),
        "last": run_row(last[0]) if last else None,
    }


def run_row(run: Run) -> dict[str, Any]:
    """One run of a job."""
    return {
        "job": run.job,
        "scheduled_for_ms": _ms(run.scheduled_for),
        "state": run.state,
        "attempts": run.attempts,
        "started_ms": _ms(run.started_at),
        "ended_ms": _ms(run.ended_at),
        "next_try_ms": _ms(run.next_at) if run.state == "due" and run.next_at else None,
        "ran_by": run.ran_by,
        "message": run.message,
    }


def _ms(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // 1_000_000


def flag_row(flag: Flag, tenant: str) -> dict[str, Any]:
    """A flag that is up."""
    at = rfc3339(flag.at_ms * 1_000_000) if flag.at_ms else None
    scope = scope_text(flag.scope, tenant)
    return {"scope": scope, "flag": str(flag.kind), "by": flag.by, "why": flag.why, "at": at}
