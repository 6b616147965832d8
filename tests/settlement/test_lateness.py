"""Late events: what is said of a month over all statements is what it comes to."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from charge_samples import WORKED_EXAMPLE, portion
from hypothesis import given
from hypothesis import strategies as st

from metering.plans import Assignment, Coupon, Term
from metering.settlement.lateness import known_of, late_of, names_of, with_late
from metering.settlement.metered import Portion
from metering.settlement.statements import Statement, make_statement, new_usage

_MONTHS = {
    "2026-10": (date(2026, 10, 1), date(2026, 11, 1)),
    "2026-11": (date(2026, 11, 1), date(2026, 12, 1)),
    "2026-12": (date(2026, 12, 1), date(2027, 1, 1)),
}
_OCTOBER, _NOVEMBER, _DECEMBER = _MONTHS


def _made(month: str, portions: list[Portion]) -> Statement:
    plan = replace(WORKED_EXAMPLE, minimum_nano=5_000_000)
    term = Term(*_MONTHS[month], plan, Assignment(plan.id, date(2026, 1, 1)))
    usage = new_usage(term)
    for each in portions:
        usage.add(each)
    statement = make_statement("acme", month, [term], [usage])
    return replace(statement, event_count=len(portions))


_portions = st.lists(
    st.builds(
        lambda unit, n, model: portion(unit, n, model=model),
        st.sampled_from(["input_uncached", "output_text", "api_call"]),
        st.integers(1, 500),
        st.sampled_from(["model-a", "unknown"]),
    ),
    max_size=6,
)


@given(_portions, _portions, _portions)
def test_statements_come_to_what_the_events_come_to(
    early: list[Portion], late: list[Portion], later: list[Portion]
) -> None:
    """Events of October before its close, after it, and after November's."""
    october = _made(_OCTOBER, early)
    bodies = [october.body()]
    for month, portions in ((_NOVEMBER, early + late), (_DECEMBER, early + late + later)):
        known = known_of(_OCTOBER, bodies)
        found = late_of(known, _made(_OCTOBER, portions))
        own = _made(month, [])
        said = with_late(own, {_OCTOBER: found} if found else {}, {_OCTOBER: known})
        assert said.total_nano - own.total_nano == sum(found["sums"].values() if found else [])
        bodies.append(said.body())

    truth, known = _made(_OCTOBER, early + late + later), known_of(_OCTOBER, bodies)
    kept = {key: amount for key, amount in known.sums.items() if amount}
    assert kept == {key: amount for key, amount in truth.sums.items() if amount}
    assert sum(known.entries.values()) == sum(truth.entries.values())
    assert (known.list_nano, known.event_count) == (truth.list_nano, truth.event_count)


def test_a_late_line_names_its_month_and_what_was_billed() -> None:
    """It is an adjustment of the charge that changed, and of no other."""
    october = _made(_OCTOBER, [portion("api_call", 1)])
    known = known_of(_OCTOBER, [october.body()])

    found = late_of(known, _made(_OCTOBER, [portion("api_call", 1), portion("api_call", 2)]))

    assert found is not None
    (line,) = with_late(_made(_NOVEMBER, []), {_OCTOBER: found}, {_OCTOBER: known}).body()["lines"][
        1:
    ]
    assert (line["kind"], line["component"], line["reference"]) == (
        "adjustment",
        "calls",
        "2026-10",
    )
    assert line["formula"] == "2026-10 comes to 0.03 USD, billed 0.01 USD"


def test_nothing_late_is_nothing_to_say() -> None:
    """No line of zero."""
    october = _made(_OCTOBER, [portion("api_call", 1)])

    assert late_of(known_of(_OCTOBER, [october.body()]), october) is None


def test_a_late_line_is_called_as_its_charge_is() -> None:
    """A charge by its name, a coupon and a minimum as on the month's own lines; never by an id."""
    october = _made(_OCTOBER, [portion("api_call", 1)])
    coupon = Coupon("launch", percent_ppm=100_000)
    plan = replace(WORKED_EXAMPLE, coupons=(coupon,))
    names = names_of([replace(october.terms[0], plan=plan)])

    found = {key.partition(":")[2]: name for key, name in names.items()}
    assert found == {
        **{each.id: each.name for each in WORKED_EXAMPLE.components},
        "coupon:launch": "Coupon launch",
        "minimum": "Minimum",
    }

    known = known_of(_OCTOBER, [october.body()])
    known.names = {f"{plan.version}:coupon:launch": "Coupon launch"}
    late = late_of(known, _made(_OCTOBER, [portion("api_call", 1), portion("api_call", 2)]))
    assert late is not None
    late["sums"] = {f"{plan.version}:coupon:launch": -1_000}
    lines = with_late(_made(_NOVEMBER, []), {_OCTOBER: late}, {_OCTOBER: known}).body()["lines"]
    assert [line["name"] for line in lines if line["reference"]] == ["Coupon launch"]
