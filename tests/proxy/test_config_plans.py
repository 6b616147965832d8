"""Plans of the file: what is right is exact, and every slip is a fault at its place."""

from __future__ import annotations

import re
from datetime import date, datetime
from pathlib import Path

import pytest
from charge_samples import WORKED_EXAMPLE

from metering.plans import Aggregation, Assignment, Coupon, Meter, Plan
from proxy.config import ConfigFaults, Loaded, load
from proxy.settings import Settings

EXAMPLE = """
plans:
  - id: worked
    name: Worked example
    charges:
      - {id: calls, kind: per_request, rate: 0.01}
      - id: tokens
        kind: matrix
        cells:
          - {model: model-a, type: input, rate: 0.00001}
          - {model: model-a, type: output, rate: 0.00002}
          - {model: model-b, type: input, rate: 0.000005}
          - {model: model-b, type: output, per_mtok: 10}
"""


def loaded(directory: Path, text: str) -> Loaded:
    path = directory / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, {})


def settings(directory: Path, text: str) -> Settings:
    return loaded(directory, text).settings


def faults(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigFaults) as caught:
        loaded(directory, text)
    return [str(fault).partition(" ")[2] for fault in caught.value.faults]


def test_the_worked_example(tmp_path: Path) -> None:
    """The plan of the example is the one that statements are tested with, but for its names."""
    (plan,) = settings(tmp_path, EXAMPLE).plans

    assert [(c.kind, c.meter, c.rate_pico, c.cells) for c in plan.components] == [
        (c.kind, c.meter, c.rate_pico, c.cells) for c in WORKED_EXAMPLE.components
    ]
    assert plan.meters == WORKED_EXAMPLE.meters


def test_everything_a_plan_can_say(tmp_path: Path) -> None:
    """Meters, coupons, minimum, trial, dates and what a tenant has are read as written."""
    found = settings(
        tmp_path,
        """
meters: [{name: users, aggregation: unique, of: user, where: {feature: [search, "web-*"]}}]
plans:
  - id: pro
    effective_from: 2026-11-01
    minimum: 20.5
    trial_days: 14
    other_usage: included
    charges: [{id: seats, kind: per_unit, meter: users, rate: 3, prorate: false}]
    coupons: [{id: launch, percent: 12.5, months: 3}, {id: ten, amount: 10, charges: [seats]}]
tenants:
  - {id: acme, plan: [{id: pro, from: 2026-11-15, coupons: [ten, launch]}]}
  - {id: beta}
""",
    )

    (plan,) = found.plans
    assert plan.meters == (
        Meter(
            "users",
            Aggregation.UNIQUE,
            (),
            (),
            "user",
            {"feature": ("search", "web-*")},
        ),
    )
    assert plan.coupons == (
        Coupon("launch", percent_ppm=125_000, months=3),
        Coupon("ten", amount_nano=10_000_000_000, components=("seats",)),
    )
    assert (plan.minimum_nano, plan.trial_days) == (20_500_000_000, 14)
    assert (plan.other_usage, plan.effective_from) == ("included", date(2026, 11, 1))
    assert found.assignments == {
        "acme": (Assignment("pro", date(2026, 11, 15), (), ("ten", "launch")),)
    }


def test_credits_come_from_their_section(tmp_path: Path) -> None:
    """A plan's version holds the multiplier matrix and the price of a credit itself."""
    (plan,) = settings(
        tmp_path,
        """
credits: {amount: 0.01, rates: [{model: "gpt-*", type: output, per_mtok: 4000}]}
plans: [{id: p, charges: [{id: c, kind: credits, included: 2.5}]}]
""",
    ).plans

    (component,) = plan.components
    assert (component.amount_nano, component.included) == (10_000_000, 2_500_000)
    assert component.cells[0].rate == 4_000_000_000


def _charge(text: str) -> str:
    return f"plans: [{{id: p, charges: [{{id: c, {text}}}]}}]"


_AT = "plans[0].charges[0]"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (_charge("kind: flat"), f"{_AT}: a charge of kind flat needs amount"),
        (
            _charge("kind: flat, amount: 1, size: 3"),
            f"{_AT}.size: a charge of kind flat has no size (it has amount)",
        ),
        (_charge("kind: flat, amount: 1, included: 3"), f"{_AT}.included: a charge of kind flat"),
        (_charge("kind: per_unit, rate: 1"), f"{_AT}: a charge of kind per_unit needs a meter"),
        (_charge("kind: per_request"), f"{_AT}: needs a rate: either rate or per_mtok"),
        (_charge("kind: per_request, rate: -1"), f"{_AT}.rate: -1 is negative"),
        (_charge("kind: per_request, rate: 1001"), f"{_AT}.rate: 1001 is more than 1000"),
        (
            _charge("kind: per_request, rate: 1, included: 0.5"),
            f"{_AT}.included: 0.5 is no whole number of units",
        ),
        (
            _charge("kind: per_unit, meter: api-cals, rate: 1"),
            f"{_AT}.meter: unknown meter 'api-cals' (did you mean 'api-calls'?)",
        ),
        (
            _charge("kind: per_unit, meter: cost, rate: 1"),
            f"{_AT}.meter: meter 'cost' counts money (charge it by kind: percentage)",
        ),
        (
            _charge("kind: percentage, meter: api-calls, percent: 1"),
            f"{_AT}.meter: meter 'api-calls' counts no money (use list-price or cost)",
        ),
        (
            _charge("kind: volume, meter: api-calls, tiers: [{up_to: 5, rate: 1}]"),
            f"{_AT}.tiers[0].up_to: the last tier is open (leave up_to out)",
        ),
        (
            _charge("kind: graduated, meter: api-calls, tiers: [{rate: 1}, {rate: 2}]"),
            f"{_AT}.tiers[0]: only the last tier is open (give it up_to)",
        ),
        (
            _charge(
                "kind: graduated, meter: api-calls, "
                "tiers: [{up_to: 5, rate: 1}, {up_to: 5, rate: 2}, {rate: 2}]"
            ),
            f"{_AT}.tiers[1].up_to: must be more than 5 (tiers go upwards)",
        ),
        (
            _charge("kind: package, meter: api-calls, amount: 1"),
            f"{_AT}: a package has a size (size: 1000)",
        ),
        (
            _charge("kind: matrix, cells: [{feature: search, rate: 1}]"),
            (
                f"{_AT}.cells[0].feature: meter 'llm-tokens' does not tell feature apart "
                "(its dimensions: model, type)"
            ),
        ),
        (_charge("kind: credits, amount: 1"), f"{_AT}: nothing says how many credits a unit is"),
        (_charge("kind: monthly"), f"{_AT}.kind: must be 'flat', 'per_unit', 'per_request'"),
        (_charge("amount: 1"), f"{_AT}.kind: is missing"),
        ("plans: [{id: 'a b'}]", "plans[0].id: 'a b' cannot be the name of a plan"),
        ("plans: [{id: p, effective_from: soon}]", "plans[0].effective_from: 'soon' is no day"),
        ("plans: [{id: p}, {id: p}]", "plans[1]: plan 'p' has terms from 1970-01-01 already"),
        (
            "plans: [{id: p, coupons: [{id: c}]}]",
            "plans[0].coupons[0]: a coupon is a percentage or an amount",
        ),
        (
            "plans: [{id: p, coupons: [{id: c, percent: 101}]}]",
            "plans[0].coupons[0].percent: 101 is more than 100",
        ),
        (
            "meters: [{name: m, aggregation: unique}]",
            "meters[0]: `unique` counts names: say which (of: user)",
        ),
        (
            "meters: [{name: m, aggregation: count, dimensions: [modl]}]",
            "meters[0].dimensions[0]: unknown dimension 'modl' (did you mean 'model'?)",
        ),
        (
            "meters: [{name: llm-tokens, aggregation: count}]",
            "meters[0].name: there is a meter 'llm-tokens' already",
        ),
        (
            "tenants: [{id: t, plan: [{id: p, from: 2026-11-01}]}]",
            "tenants[0].plan[0].id: unknown plan 'p'",
        ),
        (
            "plans: [{id: p}]\ntenants: [{id: t, plan: [{id: p}]}]",
            "tenants[0].plan[0].from: is missing",
        ),
        (
            "plans: [{id: p}]\ntenants: [{id: t, plan: [{id: p, frm: 2026-11-01}]}]",
            "tenants[0].plan[0].frm: unknown key (did you mean 'from'?)",
        ),
        (
            (
                "plans: [{id: p, effective_from: 2026-11-02}]\n"
                "tenants: [{id: t, plan: [{id: p, from: 2026-11-01}]}]"
            ),
            "tenants[0].plan[0].from: plan 'p' holds from 2026-11-02 on",
        ),
        (
            "plans: [{id: p}]\ntenants: [{id: t, plan: [{id: p, from: 2026-11-01, add_ons: [x]}]}]",
            "tenants[0].plan[0].add_ons[0]: plan 'p' has no add-on 'x'",
        ),
    ],
)
def test_slips(tmp_path: Path, text: str, fault: str) -> None:
    """Each names its place, what is wrong and, where it can, what to write."""
    found = faults(tmp_path, text)

    assert any(each.startswith(fault) for each in found), found


def test_two_charges_by_one_meter_are_pointed_out(tmp_path: Path) -> None:
    """It is allowed, and seldom meant."""
    text = """
plans:
  - id: p
    charges: [{id: a, kind: per_request, rate: 1}, {id: b, kind: per_request, rate: 2}]
"""

    warnings = [str(each) for each in loaded(tmp_path, text).warnings]

    assert any("charges 'a' by the same meter, and both are due" in each for each in warnings)


def test_versions_of_a_plan_stand_side_by_side(tmp_path: Path) -> None:
    """A change that is to come is written below, with its day."""
    plans = settings(
        tmp_path, "plans: [{id: p}, {id: p, minimum: 5, effective_from: 2027-01-01}]"
    ).plans

    assert plans == (
        Plan("p", "p"),
        Plan("p", "p", minimum_nano=5_000_000_000, effective_from=date(2027, 1, 1)),
    )


_BLOCKS = re.findall(
    r"```yaml\n(.+?)```",
    (Path(__file__).parents[2] / "docs/plans.md").read_text("utf-8"),
    re.DOTALL,
)


@pytest.mark.parametrize("number", range(len(_BLOCKS)))
def test_the_examples_of_the_page_are_sound(tmp_path: Path, number: int) -> None:
    """What finance copies from the documentation loads."""
    assert len(_BLOCKS) > 3

    settings(tmp_path, _BLOCKS[number])


def test_the_example_in_the_comment_is_sound(tmp_path: Path) -> None:
    """Taken out of the comment of config.yaml, as it stands."""
    text = (Path(__file__).parents[2] / "config.yaml").read_text("utf-8")
    block = text[text.index("# plans:") :].partition("\n\n")[0].replace("\n# ", "\n")[2:]

    (plan,) = settings(tmp_path, block).plans

    assert [each.kind for each in plan.components] == ["flat", "per_unit", "matrix"]


@pytest.mark.parametrize(
    ("today", "prepaid", "told"),
    [
        ("2026-11-20", "{hard_stop: true}", True),
        ("2026-11-29", "{hard_stop: true}", False),
        ("2026-11-20", "{low_balance_at: [1]}", False),
    ],
)
def test_a_trial_that_a_hard_stop_may_end_is_told(
    tmp_path: Path, today: str, prepaid: str, told: bool
) -> None:
    """As long as it lasts: until the month is closed a balance has list prices."""
    text = f"""
plans: [{{id: pro, trial_days: 14, charges: [{{id: base, kind: flat, amount: 1}}]}}]
tenants: [{{id: acme, prepaid: {prepaid}, plan: [{{id: pro, from: 2026-11-15}}]}}]
"""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    now_ns = int(datetime.fromisoformat(f"{today}T12:00:00Z").timestamp()) * 10**9

    warnings = [str(each) for each in load(path, {}, now_ns=now_ns).warnings]

    assert any("the 14 days of its trial" in each for each in warnings) is told, warnings
