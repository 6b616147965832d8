"""The audit trail: who changed what, from what, to what.

Rules: one record for each change, written after it was made; a change whose record cannot be
written is told as such, because then the trail lies. No secret stands in a record.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.admin.opened import Console
from proxy.admin.routes import AdminPrincipal, Answer


@dataclass(frozen=True, slots=True)
class Changed:
    """One change that was made."""

    who: AdminPrincipal
    action: str
    answer: Answer
    address: str


async def note(console: Console, changed: Changed) -> None:
    """Write it down."""
    console.log.info(
        "admin_change",
        by=changed.who.id,
        action=changed.action,
        target=changed.answer.target,
        address=changed.address,
    )
