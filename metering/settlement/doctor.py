"""`weir doctor`: why an invoice is empty or a number is off, as a table of checks over facts.

Pure. Each check needs some of the facts; where those could not be gathered it says so instead, as
a note: only what was looked at can be well. The order is the way of an event, from the file to the
invoice, so the first trouble is mostly the cause of those below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from metering.settlement import doctor_beside as beside
from metering.settlement import doctor_books as books
from metering.settlement import doctor_flow as flow
from metering.settlement import doctor_tenant as tenant
from metering.settlement.doctor_facts import Facts, Finding, Level, Unknown

NOT_LOOKED_AT = "not looked at"

Judge = Callable[[Facts], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """A question by its name, the facts that it needs, and who answers it."""

    name: str
    judge: Judge
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """A finding with the check that it is of."""

    check: str
    finding: Finding

    def body(self) -> dict[str, Any]:
        """For programs."""
        found = self.finding
        return {
            "check": self.check,
            "state": found.level.value,
            "said": found.said,
            "todo": found.todo,
            "numbers": dict(found.numbers),
        }


CHECKS = (
    Check("configuration", flow.configuration),
    Check("redis", flow.redis),
    Check("windows", flow.windows, ("redis",)),
    Check("worker", flow.worker, ("streams",)),
    Check("streams", flow.streams, ("streams",)),
    Check("waiting prices", flow.waiting_prices, ("streams",)),
    Check("spools", flow.spools),
    Check("ledger", books.ledger),
    Check("one ledger", flow.one_ledger, ("redis", "book")),
    Check("clock", flow.clock),
    Check("dead letters", books.dead_letters, ("behind",)),
    Check("rollups", books.rollups, ("behind",)),
    Check("price versions", books.price_versions, ("behind",)),
    Check("late events", books.late, ("late",)),
    Check("alerts", books.alerts, ("alerts",)),
    Check("stripe", books.stripe, ("stripe",)),
    Check("credit", beside.credit, ("credits",)),
    Check("payments", beside.payments, ("payments",)),
    Check("webhooks", beside.webhooks, ("webhooks",)),
    Check("jobs", beside.jobs, ("jobs",)),
    Check("reconciliation", books.reconciliation, ("comparisons",)),
)
"""What is asked of every installation."""

OF_A_TENANT = (
    Check("month", tenant.month),
    Check("tenant", tenant.tenant),
    Check("flags", tenant.flags, ("flags",)),
    Check("usage", tenant.usage, ("usage",)),
    Check("keys", tenant.keys, ("usage",)),
    Check("unpriced", tenant.unpriced, ("usage",)),
    Check("prices", tenant.prices, ("usage",)),
    Check("plan", tenant.plan),
    Check("charges", tenant.charges, ("billed",)),
    Check("invoice", tenant.invoice, ("billed",)),
)
"""What is asked of a tenant's month beside it."""


def examine(facts: Facts) -> list[Said]:
    """What every check says, in their order."""
    checks = CHECKS if facts.asked.tenant is None else (*CHECKS, *OF_A_TENANT)
    return [Said(check.name, found) for check in checks for found in _answers(check, facts)]


def is_well(said: Sequence[Said]) -> bool:
    """Whether nothing is in trouble; notes are no trouble."""
    return all(each.finding.level is not Level.TROUBLE for each in said)


def _answers(check: Check, facts: Facts) -> Iterator[Finding]:
    for name in check.needs:
        found = getattr(facts, name)
        if isinstance(found, Unknown):
            why = "Redis is away" if name == "redis" else found.why  # its own check says why
            yield Finding(Level.NOTE, f"{NOT_LOOKED_AT}: {why}")
            return
    yield from check.judge(facts)
