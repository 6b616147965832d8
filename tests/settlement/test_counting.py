"""In which windows an event counts."""

from __future__ import annotations

import pytest
from fixtures_ledger import make_event

from metering.caps import (
    ROLLING_DAY,
    CalendarUnit,
    CalendarWindow,
    Limit,
    Scope,
    ScopeKind,
)
from metering.ids import scope_id
from metering.settlement.counting import (
    Rules,
    Series,
    bucket_of,
    counted_in,
    keep_ms,
    oldest_bucket,
)
from metering.tenants import CapRule
from metering.window import is_rate, rolling

MONTH = CalendarWindow(CalendarUnit.MONTH, "Europe/Paris")
MINUTE, WEEK = rolling(60), rolling(7 * 86_400)
LIMIT = Limit(nano=1)
DAILY = (Scope(ScopeKind.TENANT), ROLLING_DAY)


def rules(*of_acme: CapRule) -> Rules:
    return Rules({"acme": of_acme})


@pytest.mark.parametrize(
    ("rule", "labels", "counts"),
    [
        pytest.param(CapRule(ScopeKind.TENANT, MINUTE, LIMIT), {}, "", id="tenant"),
        pytest.param(CapRule(ScopeKind.PROJECT, WEEK, LIMIT), {"project": "p"}, "p", id="project"),
        pytest.param(CapRule(ScopeKind.KEY, WEEK, LIMIT), {"api_key_id": "k"}, "k", id="key"),
        pytest.param(CapRule(ScopeKind.FEATURE, WEEK, LIMIT), {"feature": "f"}, "f", id="feature"),
        pytest.param(CapRule(ScopeKind.USER, MONTH, LIMIT), {"user": "u"}, "u", id="user"),
        pytest.param(CapRule(ScopeKind.SESSION, WEEK, LIMIT), {"session": "s"}, "s", id="session"),
        pytest.param(CapRule(ScopeKind.RUN, WEEK, LIMIT), {"run": "r"}, "r", id="run"),
        pytest.param(CapRule(ScopeKind.RUN, WEEK, LIMIT), {}, None, id="not in any"),
        pytest.param(CapRule(ScopeKind.RUN, WEEK, LIMIT), {"run": "a b"}, None, id="no id"),
        pytest.param(CapRule(ScopeKind.RUN, WEEK, LIMIT, id="r"), {"run": "r"}, "r", id="the one"),
        pytest.param(CapRule(ScopeKind.RUN, WEEK, LIMIT, id="x"), {"run": "r"}, None, id="another"),
    ],
)
def test_an_event_counts_where_a_rule_of_its_tenant_names_its_scope(
    rule: CapRule, labels: dict[str, str], counts: str | None
) -> None:
    """And in the rolling day of its tenant, always."""
    found = counted_in(make_event(**labels), rules(rule))

    expected = [] if counts is None else [(Scope(rule.kind, counts), rule.window)]
    assert found == [DAILY, *expected]


def test_a_tenant_that_is_not_configured_has_its_rolling_day() -> None:
    event = make_event(tenant="gone", run="r")

    assert counted_in(event, rules(CapRule(ScopeKind.RUN, WEEK, LIMIT))) == [DAILY]


def test_a_user_with_any_name_has_a_scope_by_its_hash() -> None:
    found = counted_in(make_event(user="Zoë <z@x>"), rules(CapRule(ScopeKind.USER, MONTH, LIMIT)))

    assert found == [DAILY, (Scope(ScopeKind.USER, scope_id("Zoë <z@x>")), MONTH)]


def test_a_rule_with_an_id_takes_the_place_of_the_one_without() -> None:
    """One scope has at most one window of a label."""
    tokyo = CalendarWindow(CalendarUnit.MONTH, "Asia/Tokyo")
    both = rules(
        CapRule(ScopeKind.USER, tokyo, LIMIT, id="u"), CapRule(ScopeKind.USER, MONTH, LIMIT)
    )

    assert both.windows("acme", Scope(ScopeKind.USER, "u")) == [tokyo]
    assert both.windows("acme", Scope(ScopeKind.USER, "v")) == [MONTH]


def test_what_is_to_be_built_is_named_by_rule_and_window() -> None:
    """Another window of the same rule is another name; the rolling day and rates have none."""
    some = rules(
        CapRule(ScopeKind.TENANT, ROLLING_DAY, LIMIT),
        CapRule(ScopeKind.TENANT, MINUTE, LIMIT),
        CapRule(ScopeKind.KEY, WEEK, LIMIT),
        CapRule(ScopeKind.USER, MONTH, LIMIT, id="u"),
    )

    assert some.marks("acme") == {
        f"acme key 7d={WEEK.bucket_ms}x{WEEK.buckets}": Series(ScopeKind.KEY, WEEK),
        "acme user/u month@Europe/Paris": Series(ScopeKind.USER, MONTH),
    }
    assert list(some.series(["acme", "other"])) == [
        Series(ScopeKind.TENANT, MINUTE),
        Series(ScopeKind.KEY, WEEK),
        Series(ScopeKind.USER, MONTH),
    ]


def test_windows_of_an_hour_or_less_are_rates() -> None:
    assert [is_rate(rolling(s)) for s in (60, 3_600, 3_601)] == [True, True, False]
    assert not is_rate(MONTH)


def test_a_calendar_window_has_one_bucket_that_lasts_to_its_end() -> None:
    october, november = 1_792_000_000_000, 1_793_500_000_000

    assert bucket_of(MONTH, november) == bucket_of(MONTH, october) + 1
    assert oldest_bucket(MONTH, november) == bucket_of(MONTH, november)
    assert keep_ms(MONTH, november) > 31 * 86_400_000
