"""What the doctor asks of a tenant's month, and what it makes of plans: on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from fixtures_ledger import NOVEMBER_NS, book, make_event

from metering.plans import (
    API_CALLS,
    LLM_TOKENS,
    Aggregation,
    Assignment,
    Cell,
    ChargeKind,
    Component,
    Meter,
    Plan,
)
from metering.settlement import doctor_tenant
from metering.settlement.doctor_facts import (
    Asked,
    Billed,
    Facts,
    Finding,
    Level,
    Place,
    TenantUsage,
    Unknown,
)
from metering.settlement.invoices import period_bounds_ns
from metering.settlement.ledger.doctor_tenant_reading import read_billed, read_usage
from metering.settlement.ledger.plan_books import Terms, close_month
from metering.settlement.ledger.store import Ledger

ASKED = Asked("acme", "2026-11", *period_bounds_ns("2026-11"), now_ns=NOVEMBER_NS)
AWAY = Unknown("not asked here")
SINCE = date(2026, 1, 1)
MATRIX = Component(
    "tokens",
    ChargeKind.MATRIX,
    meter="llm-tokens",
    cells=(Cell({"model": "gpt-9", "type": "input"}, 5),),
)
CALLS = Component("calls", ChargeKind.PER_UNIT, meter="web-calls", rate_pico=7)
WEB = Meter("web-calls", Aggregation.COUNT, ("api_call",), where={"project": ("shop", "web*")})
WRONG = Plan("gold", "Gold", (MATRIX, CALLS), (LLM_TOKENS, WEB, API_CALLS))


def _facts(ledger: Ledger, terms: Terms, asked: Asked = ASKED) -> Facts:
    place = Place("config.yaml", plans=terms.plans, assignments=terms.assignments)
    billed, usage = read_billed(ledger, asked, terms), read_usage(ledger, asked)
    return Facts(asked, place, *[AWAY] * 13, None, usage, billed)


def _all(judge: object, facts: Facts) -> list[Finding]:
    assert callable(judge)
    return list(judge(facts))


def test_usage_around_the_month(ledger: Ledger) -> None:
    """What is billed, what is not and why, and in which other months there is some."""
    book(
        ledger,
        [
            make_event(),
            make_event(billable=False, reason_code="upstream_error", units={}),
            make_event(occurred_at=NOVEMBER_NS - 40 * 86_400 * 10**9),
            make_event(tenant="beta"),
        ],
    )

    found = read_usage(ledger, ASKED)

    assert (found.events, found.billable, found.free) == (2, 1, {"upstream_error": 1})
    assert (found.sell_nano, found.models, found.keys) == (5_500_000, {"gpt-4o": 2}, {"k1": 2})
    assert found.months == ("2026-10",)
    assert found.last_ns == NOVEMBER_NS
    assert found.sell_version is not None


def test_a_charge_that_matches_nothing(ledger: Ledger) -> None:
    """It says what the charge looks for, what was used, and what no charge covers."""
    book(ledger, [make_event(units={"input_uncached": 500})])
    terms = Terms((WRONG,), (Assignment("gold", SINCE),))

    tokens, calls, rest = _all(doctor_tenant.charges, _facts(ledger, terms))

    assert "charge tokens of plan gold matches nothing" in tokens.said
    assert "model gpt-9 and type input" in tokens.said
    assert "used were the models gpt-4o" in tokens.said
    assert "where project is shop or web*" in calls.said
    assert rest.said.startswith("no charge covers gpt-4o input_uncached: 0.002500 USD")
    assert {each.level for each in (tokens, calls, rest)} == {Level.NOTE}


def test_charges_that_match_are_well(ledger: Ledger) -> None:
    book(ledger, [make_event()])
    all_tokens = replace(MATRIX, kind=ChargeKind.PER_UNIT, cells=(), rate_pico=5)
    plan = Plan("gold", "Gold", (all_tokens,), (LLM_TOKENS,))

    found = _all(
        doctor_tenant.charges, _facts(ledger, Terms((plan,), (Assignment("gold", SINCE),)))
    )

    assert [each.level for each in found] == [Level.OK]


@pytest.mark.parametrize(
    ("since", "level", "said"),
    [
        (date(2026, 12, 1), Level.TROUBLE, "plan gold begins 2026-12-01, after 2026-11"),
        (date(2026, 11, 10), Level.NOTE, "no plan until 2026-11-10"),
        (SINCE, Level.OK, "plan gold, from 2026-01-01"),
    ],
)
def test_when_a_plan_begins(ledger: Ledger, since: date, level: Level, said: str) -> None:
    book(ledger, [make_event()])
    facts = _facts(ledger, Terms((WRONG,), (Assignment("gold", since),)))

    found = _all(doctor_tenant.plan, facts)[0]

    assert (found.level, found.said[: len(said)]) == (level, said)


def test_a_plan_without_a_version_in_force(ledger: Ledger) -> None:
    """No statement can be made; the reason is told, and the invoice at list prices."""
    book(ledger, [make_event()])
    coming = replace(WRONG, effective_from=date(2027, 1, 1))
    facts = _facts(ledger, Terms((coming,), (Assignment("gold", SINCE),)))

    [found] = _all(doctor_tenant.plan, facts)

    assert found.level is Level.TROUBLE
    assert "has no version that is in force" in found.said
    assert isinstance(facts.billed, Billed)
    assert facts.billed.total_nano == 5_500_000


def test_an_invoice_says_whether_it_can_change(ledger: Ledger) -> None:
    """Open, over and not closed, closed."""
    book(ledger, [make_event()])
    terms = Terms((WRONG,), (Assignment("gold", SINCE),))
    over = replace(ASKED, now_ns=ASKED.end_ns + 2 * 3_600 * 10**9)

    [so_far] = _all(doctor_tenant.invoice, _facts(ledger, terms))
    [unclosed] = _all(doctor_tenant.invoice, _facts(ledger, terms, over))
    close_month(ledger, "acme", "2026-11", terms, now_ns=over.now_ns)
    [closed] = _all(doctor_tenant.invoice, _facts(ledger, terms, over))

    assert so_far.said.endswith("so far")
    assert (unclosed.level, "weir plans close --tenant acme" in unclosed.todo) == (Level.NOTE, True)
    assert "closed 2026-12-01T02:00:00Z" in closed.said


def test_a_tenant_that_the_file_lost_is_known_from_its_usage(ledger: Ledger) -> None:
    book(ledger, [make_event()])
    facts = _facts(ledger, Terms())
    assert isinstance(facts.usage, TenantUsage)

    [found] = _all(doctor_tenant.tenant, facts)

    assert (found.level, "the ledger has" in found.said) == (Level.NOTE, True)
