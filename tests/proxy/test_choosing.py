"""Requests at the places of their routes: who can serve them, in which order, and why."""

from __future__ import annotations

from typing import Any

import pytest
from choice_samples import choosing, labels_in, plan_of, up, why_not

from proxy.choosing import prompt_head
from proxy.errors import ContextTooLong, ProviderUnavailable, UnsupportedByModel
from routing.abilities import Abilities
from routing.affinity import Affinity
from routing.conditions import When
from routing.fallback import Outcome
from routing.health import FAILURES_IN_A_ROW, Health
from routing.history import SAMPLES_MIN, History
from routing.upstreams import Model, Strategy

TOOLS = [{"type": "function", "function": {"name": "f"}}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://i"}}]}]
NO_TOOLS, BLIND = Abilities(tools=False), Abilities(vision=False)


def test_a_model_asks_its_upstreams_as_they_are_written() -> None:
    """Without a word about choosing, the file's order holds."""
    made = plan_of(choosing(up("a", "large"), up("b", "small")))

    assert labels_in(made) == ["a/large", "b/small"]
    assert (made.word, why_not(made)) == ("first", {"b/small": "later"})


def test_priority_goes_before_the_file() -> None:
    """What stands first with a higher number is the spare of what stands second."""
    made = plan_of(choosing(up("a", "large", priority=1), up("b", "small")))

    assert labels_in(made) == ["b/small", "a/large"]
    assert why_not(made) == {"a/large": "priority"}


def test_the_cheapest_that_can_do_it() -> None:
    """A model of several upstream models: the cheapest serves, unless it lacks what is asked."""
    made = choosing(
        up("a", "large"),
        up("b", "small", abilities=NO_TOOLS),
        up("c", "medium"),
        strategy=Strategy.LEAST_COST,
    )

    plain, tools = plan_of(made), plan_of(made, tools=TOOLS)

    assert labels_in(plain) == ["b/small", "c/medium", "a/large"]
    assert plain.word == "cheapest"
    assert labels_in(tools) == ["c/medium", "a/large"]
    assert why_not(tools) == {"b/small": "lacks=tools", "a/large": "dearer"}


def test_every_candidate_is_reserved_for_in_this_order() -> None:
    """So the cheapest that fits the caps is the first that reserve takes."""
    made = plan_of(choosing(up("a", "large"), up("b", "small"), strategy=Strategy.LEAST_COST))

    assert [each.upstream for each in made.admission.candidates] == ["b/small", "a/large"]
    assert made.admission.steps == (0, 0)


def _history(**p95_ms: int) -> History:
    history = History()
    for label, took_ms in p95_ms.items():
        for _ in range(SAMPLES_MIN):
            name = label.replace("_", "/")
            history.begin(name, 0.0)
            history.end(name, Outcome.SERVED, 0.0, took_ms=took_ms, stream=False, is_cold=False)
    return history


def test_what_misses_the_target_is_not_the_cheapest() -> None:
    """The cheapest that keeps the time goes first; the one that does not is still there."""
    made = choosing(up("a", "large"), up("b", "small"), strategy=Strategy.LEAST_COST)
    around = {"history": _history(a_large=50, b_small=500), "target_ms": 100}

    found = plan_of(made, around=around)

    assert labels_in(found) == ["a/large", "b/small"]
    assert (found.word, why_not(found)) == ("in_time", {"b/small": "misses_target"})


def test_a_target_puts_the_late_last_in_any_strategy() -> None:
    """Also where nothing is written: the first that is known to miss it goes behind."""
    made = choosing(up("a", "large"), up("b", "small"))
    around = {"history": _history(a_large=500), "target_ms": 100}

    assert labels_in(plan_of(made, around=around)) == ["b/small", "a/large"]
    assert labels_in(plan_of(made)) == ["a/large", "b/small"]


def test_the_fastest_goes_first() -> None:
    """By what was measured of streams or of whole answers, whichever this is."""
    made = choosing(up("a", "large"), up("b", "small"), strategy=Strategy.LEAST_LATENCY)

    found = plan_of(made, around={"history": _history(a_large=500, b_small=50)})

    assert labels_in(found)[0] == "b/small"


def test_an_upstream_that_fails_is_not_reserved_for_first() -> None:
    """The hold is for the one that will be asked."""
    health = Health()
    for _ in range(FAILURES_IN_A_ROW):
        health.record("a/large", Outcome.SERVER_ERROR, 1.0, retry_after_s=None)
    made = choosing(up("a", "large"), up("b", "small"))

    found = plan_of(made, around={"health": health, "now_s": 2.0})

    assert found.admission.candidates[0].upstream == "b/small"
    assert why_not(found) == {"a/large": "failing"}


def test_a_session_stays_where_it_is() -> None:
    """And sessions are spread over the upstreams."""
    made = choosing(
        *[up(name, "small") for name in "abcd"],
        strategy=Strategy.WEIGHTED,
        affinity=Affinity.SESSION,
    )

    homes = [
        {labels_in(plan_of(made, number=n, labels={"session": f"s{s}"}))[0] for n in range(3)}
        for s in range(20)
    ]

    assert all(len(home) == 1 for home in homes)
    assert len(set.union(*homes)) > 1


def test_a_conversation_stays_where_its_prompt_is_cached() -> None:
    """Later turns begin as the first did."""
    made = choosing(
        *[up(name, "small") for name in "abcd"],
        strategy=Strategy.WEIGHTED,
        affinity=Affinity.PROMPT,
    )
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is a weir?"},
    ]
    longer = [
        *turns,
        {"role": "assistant", "content": "A low dam."},
        {"role": "user", "content": "?"},
    ]

    assert labels_in(plan_of(made, messages=turns)) == labels_in(
        plan_of(made, number=2, messages=longer)
    )


@pytest.mark.parametrize(
    ("messages", "head"),
    [
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], b'["s","u"]'),
        ([{"role": "user", "content": "u"}, {"role": "user", "content": "v"}], b'["u"]'),
        ([{"role": "user", "content": [{"type": "text", "text": "u"}]}], b'[["u"]]'),
        ([], b""),
        ("nonsense", b""),
        ([7], b""),
    ],
)
def test_how_a_prompt_begins(messages: object, head: bytes) -> None:
    """What comes before the first turn, and the first turn."""
    assert prompt_head({"messages": messages}) == head


def test_tags_that_are_asked_for() -> None:
    """Only upstreams that have all of them serve."""
    made = choosing(up("a", "large", tags=frozenset({"eu", "fast"})), up("b", "small"))

    found = plan_of(made, tags=("eu",))

    assert labels_in(found) == ["a/large"]
    assert why_not(found) == {"b/small": "tags=eu"}


def test_tags_that_nobody_has() -> None:
    """The refusal names them, and the header that asked."""
    with pytest.raises(UnsupportedByModel, match="large: tags=moon") as caught:
        plan_of(choosing(up("a", "large")), tags=("moon",))

    assert caught.value.param == "x-weir-tags"


def test_conditions_keep_requests_off() -> None:
    """An upstream for long prompts, or for one tenant, is not asked by others."""
    made = choosing(up("a", "large", when=When(labels=(("tenant", ("vip",)),))), up("b", "small"))

    assert why_not(plan_of(made)) == {"a/large": "when=tenant"}
    assert labels_in(plan_of(made, labels={"tenant": "vip"})) == ["a/large", "b/small"]


def test_what_is_switched_off_is_not_asked() -> None:
    """It stands in the file, and among the losers."""
    found = plan_of(choosing(up("a", "large", is_enabled=False), up("b", "small")))

    assert labels_in(found) == ["b/small"]
    assert why_not(found) == {"a/large": "it is switched off"}


def test_a_request_that_no_upstream_can_do_goes_to_a_fallback_that_can() -> None:
    """Capabilities are never lost silently, and never refused while something has them."""
    small = Model("small", (up("b", "small", "small"),))
    made = choosing(up("a", "large", abilities=NO_TOOLS), others=(small,), fallbacks=("small",))

    found = plan_of(made, tools=TOOLS)

    assert labels_in(found) == ["b/small"]
    assert why_not(found) == {"a/large": "lacks=tools"}


REFUSED: dict[str, tuple[Abilities, dict[str, Any], str, str]] = {
    "tools": (NO_TOOLS, {"tools": TOOLS}, "lacks=tools", "tools"),
    "images": (BLIND, {"messages": IMAGE}, "lacks=vision", "messages"),
    "a schema": (
        Abilities(json_schema=False),
        {"response_format": {"type": "json_schema"}},
        "lacks=json_schema",
        "response_format",
    ),
    "thinking": (
        Abilities(reasoning=False), {"reasoning_effort": "high"}, "lacks=reasoning",
        "reasoning_effort",
    ),
    "a long answer": (
        Abilities(max_output_tokens=100), {"max_tokens": 101}, "lacks=output", "max_tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_nothing_can_do_is_refused(name: str) -> None:
    """With the name of what is missing at each upstream, and the field that asks for it."""
    abilities, fields, reason, param = REFUSED[name]
    made = choosing(up("a", "large", abilities=abilities), up("b", "small", abilities=abilities))

    with pytest.raises(UnsupportedByModel, match=reason) as caught:
        plan_of(made, **fields)

    assert caught.value.param == param
    assert caught.value.status == 400


def test_a_prompt_too_long_for_one_upstream_goes_to_the_other() -> None:
    """And for all of them, it is refused with the longest context there is."""
    short, longer = Abilities(max_context_tokens=5), Abilities(max_context_tokens=500)
    made = choosing(up("a", "large", abilities=short), up("b", "small", abilities=longer))

    found = plan_of(made, messages=[{"role": "user", "content": "word " * 50}])

    assert labels_in(found) == ["b/small"]
    assert why_not(found) == {"a/large": "lacks=context"}
    assert found.admission.options[0].context_tokens_max == 500
    with pytest.raises(ContextTooLong, match="maximum context length is 500"):
        plan_of(made, messages=[{"role": "user", "content": "word " * 600}])


def test_what_is_not_known_is_not_refused() -> None:
    """A model that is in no list takes everything, until somebody says otherwise."""
    found = plan_of(
        choosing(up("a", "large")), tools=TOOLS, messages=IMAGE, reasoning_effort="high"
    )

    assert labels_in(found) == ["a/large"]


def test_an_answer_is_not_held_for_longer_than_the_model_can_say() -> None:
    """Where the client set no bound, the model's own goes before our assumption."""
    most = plan_of(choosing(up("a", "large", abilities=Abilities(max_output_tokens=64))))

    assert most.admission.options[0].output_tokens == 64


def test_every_upstream_of_a_fallback_has_a_reason_too() -> None:
    """Nothing of the route goes unmentioned."""
    small = Model("small", (up("b", "small", "small"), up("c", "small", "small")))
    found = plan_of(choosing(up("a", "large"), others=(small,), fallbacks=("small",)))

    assert labels_in(found) == ["a/large", "b/small", "c/small"]
    assert why_not(found) == {"b/small": "fallback", "c/small": "later"}


def test_a_model_that_is_switched_off_whole() -> None:
    """It is not taken for one without a price."""
    with pytest.raises(ProviderUnavailable, match="a: it is switched off"):
        plan_of(choosing(up("a", "large", is_enabled=False)))
