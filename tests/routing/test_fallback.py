"""The order of attempts: what is over in a moment is asked again, failures go on, answers stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.caps import Vector
from routing.fallback import (
    ATTEMPTS_MAX,
    DETOURS,
    FALLS_BACK,
    MOMENTARY,
    FallbackPlan,
    Outcome,
    Stop,
    Try,
    Wait,
    larger,
)
from routing.policy import Option
from routing.retries import Retries
from routing.retry_budget import RetryBudgets
from routing.upstreams import Upstream


def option(provider: str, model: str = "m", window: int | None = None, prompt: int = 0) -> Option:
    return Option(
        Upstream(provider, model, model),
        None,
        Vector(),
        prompt_tokens=prompt,
        context_tokens_max=window,
    )


OPTIONS = [option("a"), option("b")]
OTHER = option("c", "spare")
RETRIES = Retries(max=1, max_wait_s=2.0, backoff_s=0.25)


class Troubled:
    """Knows of these upstreams that they fail."""

    def __init__(self, *labels: str) -> None:
        self._labels = labels

    def is_passed_over(self, label: str, now_s: float) -> bool:
        return label in self._labels


class Spent:
    """A budget with nothing in it."""

    def take(self, label: str, now_s: float) -> bool:
        return False


def failed(plan: FallbackPlan, outcome: Outcome, **how: object) -> Try | Wait | Stop:
    """The step after the first attempt has ended so."""
    assert isinstance(plan.next(), Try)
    plan.record(outcome, **how)  # type: ignore[arg-type]
    return plan.next(100.0, 0.5)


@pytest.mark.parametrize("outcome", Outcome)
def test_after_one_outcome(outcome: Outcome) -> None:
    """Failures lead to the next option with their name as the reason; the rest is final."""
    plan = FallbackPlan(OPTIONS)
    assert plan.next() == Try(OPTIONS[0])
    plan.record(outcome)

    step = plan.next()

    assert step == (Try(OPTIONS[1], outcome) if outcome in FALLS_BACK else Stop(outcome))


@pytest.mark.parametrize("outcome", Outcome)
def test_what_is_over_in_a_moment_is_asked_again(outcome: Outcome) -> None:
    """Where nobody else is there; silence, refusals and what a key cannot do are not."""
    plan = FallbackPlan(OPTIONS[:1], retries=RETRIES)

    step = failed(plan, outcome)

    if outcome in MOMENTARY:
        assert step == Wait(0.125, OPTIONS[0], outcome)
        assert plan.next() == Try(OPTIONS[0], outcome, retries=1)
        plan.record(outcome)
        assert plan.next(101.0, 0.5) == Stop(outcome)
    else:
        assert step == Stop(outcome)


@pytest.mark.parametrize(
    ("after_s", "step"),
    [
        (1.0, Wait(1.0125, OPTIONS[0], Outcome.RATE_LIMITED)),
        (7.0, Try(OTHER, Outcome.RATE_LIMITED)),
    ],
)
def test_a_short_wait_keeps_the_model(after_s: float, step: object) -> None:
    """It goes before a fallback to another model; a long one does not."""
    plan = FallbackPlan([OPTIONS[0], OTHER], retries=Retries(backoff_s=0.025))

    assert failed(plan, Outcome.RATE_LIMITED, after_s=after_s) == step


def test_another_place_for_the_model_is_better_than_waiting() -> None:
    """At once, if it is in good health; else the wait is better."""
    healthy = FallbackPlan(OPTIONS, retries=RETRIES)
    sick = FallbackPlan(OPTIONS, retries=RETRIES, standing=Troubled("b/m"))

    assert failed(healthy, Outcome.SERVER_ERROR) == Try(OPTIONS[1], Outcome.SERVER_ERROR)
    assert failed(sick, Outcome.SERVER_ERROR) == Wait(0.125, OPTIONS[0], Outcome.SERVER_ERROR)


def test_who_is_known_to_fail_comes_last() -> None:
    """It was in order when the request came, and fails by now."""
    plan = FallbackPlan([*OPTIONS, OTHER], standing=Troubled("b/m"))

    assert failed(plan, Outcome.TIMEOUT) == Try(OTHER, Outcome.TIMEOUT)
    plan.record(Outcome.TIMEOUT)
    assert plan.next() == Try(OPTIONS[1], Outcome.TIMEOUT)


def test_without_a_budget_nothing_is_sent_beside() -> None:
    """Neither a retry, nor a fallback to what is known to fail; one to a healthy upstream is."""
    alone = FallbackPlan(OPTIONS[:1], retries=RETRIES, budget=Spent())
    sick = FallbackPlan(OPTIONS, budget=Spent(), standing=Troubled("b/m"))
    healthy = FallbackPlan(OPTIONS, budget=Spent())

    assert failed(alone, Outcome.SERVER_ERROR) == Stop(Outcome.SERVER_ERROR)
    assert failed(sick, Outcome.SERVER_ERROR) == Stop(Outcome.SERVER_ERROR)
    assert (alone.unpaid, sick.unpaid) == (["a/m"], ["b/m"])
    assert failed(healthy, Outcome.SERVER_ERROR) == Try(OPTIONS[1], Outcome.SERVER_ERROR)


def test_a_connection_that_broke_is_asked_again() -> None:
    """Unlike an answer that makes no sense: the next one would not make more."""
    broken = FallbackPlan(OPTIONS[:1], retries=RETRIES)
    senseless = FallbackPlan(OPTIONS[:1], retries=RETRIES)

    assert isinstance(failed(broken, Outcome.NONSENSE, answered=False), Wait)
    assert failed(senseless, Outcome.NONSENSE) == Stop(Outcome.NONSENSE)


def test_nothing_begins_after_the_deadline() -> None:
    """No attempt, and no wait that would end after it."""
    over = FallbackPlan(OPTIONS, until_s=99.0)
    near = FallbackPlan([OPTIONS[0], OTHER], retries=RETRIES, until_s=100.1)

    assert failed(over, Outcome.TIMEOUT) == Stop(Outcome.TIMEOUT)
    assert failed(near, Outcome.SERVER_ERROR) == Try(OTHER, Outcome.SERVER_ERROR)


def test_what_has_no_room_under_the_caps_is_passed_over() -> None:
    """As if it had not been there: the upstream that failed is asked again instead."""
    plan = FallbackPlan(OPTIONS, retries=RETRIES)
    assert failed(plan, Outcome.SERVER_ERROR) == Try(OPTIONS[1], Outcome.SERVER_ERROR)
    plan.pass_over()

    assert plan.next(100.0, 0.5) == Wait(0.125, OPTIONS[0], Outcome.SERVER_ERROR)


@pytest.mark.parametrize("outcome", DETOURS)
def test_a_detour_is_all_that_is_left(outcome: Outcome) -> None:
    """After it the route is not gone back to, and without one it is over."""
    plan, nowhere = FallbackPlan(OPTIONS), FallbackPlan(OPTIONS)
    for each, options in ((plan, [OTHER]), (nowhere, [])):
        each.next()
        each.record(outcome)
        each.detour(options)

    assert plan.next() == Try(OTHER, outcome)
    plan.record(outcome)
    assert plan.next() == Stop(outcome)
    assert nowhere.next() == Stop(outcome)


@pytest.mark.parametrize(
    ("failed_window", "prompt", "left"),
    [(8, 5, ["large", "larger"]), (None, 5, ["small", "large", "larger"]), (16, 5, ["larger"])],
)
def test_a_larger_window_is_a_known_one(
    failed_window: int | None, prompt: int, left: list[str]
) -> None:
    """Larger than that of the model that failed, or than the prompt where that is not known."""
    windows = {"unknown": None, "small": 8, "large": 16, "larger": 32}
    waiting = [option(name, name, window) for name, window in windows.items()]

    found = larger(waiting, than=option("a", "m", failed_window, prompt))

    assert [each.upstream.public_name for each in found] == left


def test_every_option_is_tried_once() -> None:
    """When all have failed, the last failure is what is told."""
    plan = FallbackPlan(OPTIONS)
    for outcome in (Outcome.TIMEOUT, Outcome.SERVER_ERROR):
        plan.next()
        plan.record(outcome)

    assert plan.next() == Stop(Outcome.SERVER_ERROR)


def test_a_plan_without_options_is_a_bug() -> None:
    """An exchange without an upstream is refused before there is a plan."""
    with pytest.raises(ValueError, match="at least one"):
        FallbackPlan([]).next()


@given(data=st.data(), count=st.integers(1, 20), retries=st.integers(0, 5))
def test_any_course_ends(data: st.DataObject, count: int, retries: int) -> None:
    """Never more attempts than the bound, never two at one place after silence or a refusal, and
    after a stop nothing but the stop."""
    options = [option(f"p{number}", f"m{number % 3}", number) for number in range(count)]
    sick = data.draw(st.sets(st.sampled_from([each.upstream.label for each in options])))
    plan = FallbackPlan(
        options,
        retries=Retries(max=retries),
        budget=RetryBudgets(),
        standing=Troubled(*sick),
    )
    tries: list[tuple[Option, Outcome]] = []
    now_s = 0.0
    while not isinstance(step := plan.next(now_s, 0.5), Stop):
        now_s += 0.1
        if isinstance(step, Wait):
            continue
        outcome = data.draw(st.sampled_from(list(Outcome)))
        if tries and step.option is tries[-1][0]:
            assert tries[-1][1] in MOMENTARY
        tries.append((step.option, outcome))
        plan.record(outcome, after_s=data.draw(st.none() | st.floats(0, 3)))
        if outcome in DETOURS:
            plan.detour(plan.waiting)

    assert len(tries) <= ATTEMPTS_MAX
    assert plan.next(now_s, 0.5) == step == Stop(tries[-1][1])
    for each in options:
        assert sum(tried is each for tried, _ in tries) <= 1 + retries


def test_a_stream_that_broke_off_ends_unless_others_go_on() -> None:
    """Only those that somebody names are asked to go on, and only once."""
    plan = FallbackPlan(OPTIONS)
    assert plan.next() == Try(OPTIONS[0])
    plan.record(Outcome.TRUNCATED)
    assert plan.next() == Stop(Outcome.TRUNCATED)

    plan.detour([OTHER])
    assert plan.next() == Try(OTHER, Outcome.TRUNCATED)
    plan.record(Outcome.TRUNCATED)
    assert plan.next() == Stop(Outcome.TRUNCATED)
