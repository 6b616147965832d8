"""The audit trail: who changed what, from what, to what.

Rules: one record for each change, written after it was made; a change whose record cannot be
written is told as such, because then the trail lies. No secret stands in a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from metering.clock import now_ns
from metering.settlement.ledger import admin_books as books
from metering.settlement.ledger.store import Ledger
from proxy.admin.opened import Console
from proxy.admin.pages import PAGE, before_of, limit_of, listed
from proxy.admin.routes import BASE, AdminPrincipal, Answer, Call, Param, Role, Route
from proxy.cli_times import rfc3339
from proxy.errors import InternalError


@dataclass(frozen=True, slots=True)
class Changed:
    """One change that was made."""

    who: AdminPrincipal
    action: str
    answer: Answer
    request_id: str


async def note(console: Console, changed: Changed) -> None:
    """Write it down."""
    answer = changed.answer
    who = answer.who or changed.who
    record = books.Audit(
        at=now_ns(),
        who=who.id,
        role=who.role.value,
        action=changed.action,
        target=answer.target,
        before=_exact(answer.before),
        after=_exact(answer.after),
        request_id=changed.request_id,
    )
    told = {"by": who.id, "action": changed.action, "target": answer.target}
    console.log.info("admin_change", **told, request_id=changed.request_id)
    try:
        await console.ask(lambda ledger: books.audit(ledger, record))
    except Exception as error:
        console.log.error("admin_change_not_audited", **told, exc_info=error)
        raise InternalError(
            "The change was made, and its record in the audit trail could not be written; the log "
            f"has it under {changed.request_id}."
        ) from error


def _exact(value: Any) -> Any:
    """The same with every number exact, as the trail keeps it."""
    if isinstance(value, dict):
        return {str(name): _exact(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(each) for each in value]
    return Decimal(repr(value)) if isinstance(value, float) else value


async def list_audit(call: Call) -> Answer:
    """The records, the newest first."""
    query, limit = call.query, limit_of(call.query)
    before_id = before_of(query)

    def ask(ledger: Ledger) -> list[books.Audit]:
        return books.audits(
            ledger,
            limit=limit + 1,
            before_id=before_id,
            target=query.get("target"),
            who=query.get("who"),
            action=query.get("action"),
        )

    found = await call.console.ask(ask)
    more = str(found[limit - 1].id) if len(found) > limit else None
    return Answer({"data": [_row(each) for each in found[:limit]], "next_cursor": more})


def _row(record: books.Audit) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": rfc3339(record.at),
        "who": record.who,
        "role": record.role,
        "action": record.action,
        "target": record.target,
        "before": record.before,
        "after": record.after,
        "request_id": record.request_id,
    }


async def verify_audit(call: Call) -> Answer:
    """Whether the chain of records holds."""
    faults = await call.console.ask(books.audit_faults)
    return Answer({"ok": not faults, "faults": faults[:100]})


ROUTES = (
    Route(
        "GET",
        f"{BASE}/audit",
        Role.ADMIN,
        list_audit,
        summary="Who changed what, the newest first",
        tag="audit",
        query=(
            *PAGE,
            Param("target", "Only of this thing and what is under it: `tenants/acme`"),
            Param("who", "Only by this admin key"),
            Param("action", "Only of this kind: `tenant.create`"),
        ),
        answer=listed(),
    ),
    Route(
        "GET",
        f"{BASE}/audit/verify",
        Role.ADMIN,
        verify_audit,
        summary="Whether the records are those that were written",
        tag="audit",
    ),
)
