"""Plans: what is held at each stage, who is passed over, and what is never undone by a fallback."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_samples import PRICES, planned, route_of, shadowed, three_models

from metering.caps import Elastic, Vector
from metering.steps import Step
from proxy.admission import count_prompts
from proxy.errors import ContextTooLong, ProviderUnavailable
from proxy.hold_facts import upstream_facts
from proxy.planning import Plan, plan
from proxy.settings import Settings
from proxy.wire.openai_completions import client as completions
from proxy.wire.openai_embeddings import client as embeddings
from proxy.wire.openai_responses import client as responses
from proxy.wishes import Wishes
from routing.abilities import Abilities
from routing.degrade import Changes, Skip
from routing.upstreams import Upstream

TOOLS = [{"type": "function", "function": {"name": "f"}}]
NO_TOOLS = Abilities(tools=False)
DOWN = (Step(500_000, to="middle"), Step(800_000, to="cheap"), Step(900_000, max_tokens=100))


def shape(plan: Plan) -> list[tuple[str, int, int]]:
    """Model, stage and step of each candidate."""
    return [
        (option.upstream.public_name, candidate.stage, step)
        for option, candidate, step in zip(
            plan.admission.options, plan.admission.candidates, plan.admission.steps, strict=True
        )
    ]


def test_every_stage_has_its_candidate() -> None:
    """From the model asked for down to the last step, each held by what it asks for there."""
    made = planned(three_models(*DOWN), max_tokens=1000)

    assert shape(made) == [("dear", 0, 0), ("middle", 1, 1), ("cheap", 2, 2), ("cheap", 3, 3)]
    assert [each.changes.max_tokens for each in made.admission.options] == [None] * 3 + [100]
    tokens = [each.vector.tokens for each in made.admission.candidates]
    assert tokens[2] - tokens[3] == 900
    assert made.stairs is not None
    assert len(made.stairs.stages) == 3


def test_a_step_that_changes_nothing_for_a_request_is_none() -> None:
    """A client that keeps the bound by itself is not degraded by it."""
    made = planned(three_models(Step(500_000, max_tokens=100)), max_tokens=100)

    assert shape(made) == [("dear", 1, 0)]


def test_what_lacks_something_is_passed_over() -> None:
    """A model without tools never gets a request with tools; the stage takes the one before."""
    configured = three_models(*DOWN, cheap=NO_TOOLS)
    made, plain = planned(configured, tools=TOOLS), planned(configured)

    assert shape(made)[:2] == [("dear", 0, 0), ("middle", 2, 1)]
    assert made.skips[2] == (Skip("cheap", "lacks=tools"),)
    assert "cheap" in {model for model, _, _ in shape(plain)}


def test_a_context_that_is_too_short_is_lacking() -> None:
    """Prompt and output have to fit, with the bound of the step."""
    short = Abilities(max_context_tokens=200)
    bounded = three_models(Step(500_000, to="cheap", max_tokens=100), cheap=short)
    unbounded = three_models(Step(500_000, to="cheap"), cheap=short)

    assert [model for model, _, _ in shape(planned(bounded, max_tokens=900))] == ["dear", "cheap"]
    assert planned(unbounded, max_tokens=900).skips[1] == (Skip("cheap", "lacks=context"),)


def test_the_model_asked_for_says_when_the_context_is_too_short() -> None:
    """As OpenAI says it, before anything is held."""
    configured = three_models(dear=Abilities(max_context_tokens=50))

    with pytest.raises(ContextTooLong) as output:
        planned(configured, max_tokens=60)
    with pytest.raises(ContextTooLong) as prompt:
        planned(configured, messages=[{"role": "user", "content": "word " * 100}])

    assert output.value.code == "context_length_exceeded"
    assert "you requested 68 tokens (8 in the messages, 60 in the completion)" in str(output.value)
    assert "your messages resulted in" in str(prompt.value)
    assert planned(configured).admission.options


def test_what_is_dearer_is_passed_over() -> None:
    """Asked for the cheap one, the dear step is no degradation."""
    made = planned(three_models(Step(500_000, to="dear")), model="cheap")

    assert shape(made) == [("cheap", 1, 0)]
    assert made.skips[1] == (Skip("dear", "dearer"),)


def test_an_instruction_is_held_for() -> None:
    """Its tokens belong to the prompt of that stage."""
    made = planned(three_models(Step(500_000, instruct="Answer in one sentence.")))
    usual, brief = made.admission.options

    assert brief.changes == Changes(instruct="Answer in one sentence.")
    assert brief.prompt_tokens > usual.prompt_tokens
    assert brief.hold.tokens - usual.hold.tokens == brief.prompt_tokens - usual.prompt_tokens


def test_nothing_is_sent_from_cache_only_on() -> None:
    """A closed stage has no candidate, and the plan says where that begins."""
    made = planned(three_models(Step(500_000, to="cheap"), Step(600_000, cache_only=True)))

    assert shape(made) == [("dear", 0, 0), ("cheap", 1, 1)]
    assert made.closed == 2


def test_declined_steps_are_passed_over() -> None:
    """`x-weir-no-degrade`: the own model up to the cap itself, and no stairs."""
    made = planned(three_models(*DOWN), wishes=Wishes(degrade=False))

    assert (shape(made), made.stairs) == ([("dear", 0, 0)], None)


def test_steps_in_shadow_change_nothing() -> None:
    """Only the model asked for is a candidate; what would be done is known by stage."""
    made = planned(shadowed(three_models(*DOWN)), max_tokens=1000)

    assert shape(made) == [("dear", 0, 0)]
    assert made.stairs is not None
    assert made.stairs.is_shadow
    assert made.texts == (None, "middle", "cheap", "cheap; max_tokens=100")


def test_holds_are_elastic_down_to_a_useful_answer() -> None:
    """The part that shrinks is the output, over all choices, at the price it is held at."""
    made = planned(three_models(), max_tokens=1000, n=2)
    option = made.admission.options[0]

    assert option.elastic == Elastic(
        base=Vector(nano=option.prompt_tokens * 100_000, tokens=option.prompt_tokens, requests=1),
        rate_pico=400_000_000,
        tokens_min=128,
    )
    assert option.hold.nano == option.elastic.base.nano + 2000 * 400_000
    assert made.admission.candidates[0].elastic == option.elastic


def test_what_may_not_shrink_does_not() -> None:
    """By wish or by setting; a stream always may, for it grows again; a short answer need not."""
    configured = three_models()
    rigid = replace(configured, clamp_max_tokens=False)

    def elastic(plan: Plan) -> Elastic | None:
        return plan.admission.candidates[0].elastic

    assert elastic(planned(configured, wishes=Wishes(clamp=False))) is None
    assert elastic(planned(rigid)) is None
    assert elastic(planned(rigid, stream=True)) is not None
    assert elastic(planned(configured, max_tokens=64)) is None


def test_a_fallback_that_lacks_something_is_left_out() -> None:
    """The fallback models of the route are held to the same as those of steps."""
    configured = three_models(fallbacks=("middle", "cheap"), middle=NO_TOOLS)
    made = planned(configured, tools=TOOLS)

    assert [each.upstream.public_name for each in made.order(0)] == ["dear", "cheap"]
    assert made.spare_skips == (Skip("middle", "lacks=tools"),)
    assert len(planned(configured).order(0)) == 3


def test_a_fallback_does_not_undo_a_step() -> None:
    """While degraded it is asked with the same changes, and only where it is cheaper."""
    configured = three_models(
        Step(500_000, max_tokens=50), Step(600_000, to="cheap"), fallbacks=("middle",)
    )
    made = planned(configured)
    bounded, cheap = made.order(1), made.order(2)

    assert [each.upstream.public_name for each in bounded] == ["dear", "middle"]
    assert {each.changes.max_tokens for each in (*bounded, *cheap)} == {50}
    assert [each.upstream.public_name for each in cheap] == ["cheap", "middle"]

    upwards = three_models(Step(600_000, to="cheap"), fallbacks=("dear",))
    models = {**upwards.models, "middle": replace(upwards.models["middle"], fallbacks=("dear",))}
    other = planned(replace(upwards, models=models), model="middle")
    assert [each.upstream.public_name for each in other.order(1)] == ["cheap"]
    assert [each.upstream.public_name for each in other.order(0)] == ["middle", "dear"]


def test_a_stand_in_for_a_model_that_cannot_be_called_is_able() -> None:
    """Where the provider of the model asked for has no key, the next able model serves."""
    configured = three_models(fallbacks=("middle", "cheap"), middle=NO_TOOLS)
    away = replace(configured.providers["one"], name="two", unavailable="no key")
    models = dict(configured.models)
    gone = replace(models["dear"].upstreams[0], provider="two")
    models["dear"] = replace(models["dear"], upstreams=(gone,))
    cut = replace(configured, models=models, providers={**configured.providers, "two": away})

    assert [each.upstream.public_name for each in planned(cut, tools=TOOLS).order(0)] == ["cheap"]
    models["dear"] = replace(models["dear"], fallbacks=("middle",))
    with pytest.raises(ProviderUnavailable) as caught:
        planned(cut, tools=TOOLS)
    assert "middle: lacks=tools" in caught.value.message


def test_recovery_knows_each_upstream_once() -> None:
    """With the longest of its prompts: an instruction may have been added."""
    configured = three_models(Step(500_000, instruct="Answer in one sentence."))
    made = planned(configured)
    facts = upstream_facts(made, configured)

    assert [fact[3] for fact in facts] == ["dear"]
    assert facts[0][7] == made.admission.options[1].prompt_tokens


STEPS = st.lists(
    st.builds(
        Step,
        st.just(1),
        to=st.sampled_from([None, *PRICES]),
        max_tokens=st.none() | st.integers(1, 2000),
        instruct=st.none() | st.just("be brief"),
        cache_only=st.integers(0, 9).map(lambda each: each == 0),
    ),
    min_size=1,
    max_size=4,
)
ABILITIES = st.builds(
    Abilities,
    tools=st.sampled_from([None, True, False]),
    max_context_tokens=st.none() | st.just(50),
)
ASKED = st.fixed_dictionaries(
    {"model": st.sampled_from(list(PRICES)), "n": st.integers(1, 3)},
    optional={"max_tokens": st.integers(1, 3000), "tools": st.just(TOOLS)},
)


@settings(max_examples=50)
@given(steps=STEPS, asked=ASKED, abilities=st.fixed_dictionaries(dict.fromkeys(PRICES, ABILITIES)))
def test_degradation_is_never_dearer_nor_unable(
    steps: list[Step], asked: dict[str, object], abilities: dict[str, Abilities]
) -> None:
    """Whatever the steps: no other model that lacks something, none that is dearer, stages rise."""
    numbered = [replace(step, at_ppm=100_000 * i) for i, step in enumerate(steps, start=1)]
    abilities[str(asked["model"])] = Abilities()
    made = planned(three_models(*numbered, fallbacks=("middle",), **abilities), **asked)
    options, candidates = made.admission.options, made.admission.candidates

    stages = [each.stage for each in candidates]
    assert stages == sorted(stages)
    assert stages[-1] == (len(steps) if made.closed is None else made.closed - 1)
    prices = [float(PRICES[each.upstream.public_name]) for each in options]
    assert max(prices) == prices[0]
    if not any(each.max_context_tokens for each in abilities.values()):  # an instruction takes room
        assert prices == sorted(prices, reverse=True)
    limit = asked.get("max_tokens")
    for index in range(len(options)):
        for option in made.order(index):
            model = option.upstream.public_name
            bounds = [each for each in (limit, option.changes.max_tokens) if each is not None]
            if model == asked["model"]:
                continue
            assert not (asked.get("tools") and abilities[model].tools is False)
            longest = abilities[model].max_context_tokens
            assert longest is None or option.prompt_tokens + min(bounds, default=1) <= longest
            if options[index].upstream.public_name != asked["model"]:
                assert float(PRICES[model]) < float(PRICES[str(asked["model"])])


def embedded(made: Settings, **fields: Any) -> Plan:
    """The plan for embeddings of `dear`."""
    request = embeddings.parse_request(orjson.dumps({"model": "dear", "input": "hi", **fields}))
    route = route_of(made, request.model)
    return plan(route, request, count_prompts(request, route))


def test_vectors_stay_with_their_model() -> None:
    """Neither a step nor a fallback leads to another model: its vectors could not be compared."""
    made = embedded(three_models(*DOWN[:2], fallbacks=("middle",)))

    assert {option.upstream.public_name for option in made.options} == {"dear"}
    assert made.spare_skips == (Skip("middle", "lacks=the_model_asked_for"),)
    assert made.skips[2] == (
        Skip("cheap", "lacks=the_model_asked_for"),
        Skip("middle", "lacks=the_model_asked_for"),
    )
    assert made.texts == (None, None, None)


def test_vectors_of_a_stand_in_are_none() -> None:
    """Where their model cannot be called there is no answer."""
    configured = three_models(fallbacks=("middle",))
    away = replace(configured.providers["one"], name="away", unavailable="no key")
    dear = replace(configured.models["dear"], upstreams=(Upstream("away", "dear", "dear"),))
    configured = replace(
        configured,
        providers={**configured.providers, "away": away},
        models={**configured.models, "dear": dear},
    )

    with pytest.raises(ProviderUnavailable, match="middle: lacks=the_model_asked_for"):
        embedded(configured)


def test_what_has_no_place_for_an_instruction_holds_none() -> None:
    """A text that is continued gets no system message: nothing is held for it, and nothing said."""
    configured = three_models(Step(500_000, instruct="Be brief."))
    request = completions.parse_request(orjson.dumps({"model": "dear", "prompt": "hi"}))
    route = route_of(configured)
    made = plan(route, request, count_prompts(request, route))

    assert {option.changes for option in made.options} == {Changes()}
    assert len({option.prompt_tokens for option in made.options}) == 1
    assert all(text is None for text in made.texts)


def test_no_response_is_cut_below_the_least_that_is_taken() -> None:
    """OpenAI refuses `max_output_tokens` below 16, so that neither a hold nor a step goes there."""
    configured = three_models(Step(500_000, max_tokens=5))
    one = replace(configured.providers["one"], options={"formats": "openai_responses"})
    configured = replace(configured, providers={"one": one}, min_output_tokens=1)
    raw = {"model": "dear", "input": "hi", "stream": True}
    request = responses.parse_request(orjson.dumps(raw))
    route = route_of(configured)
    made = plan(route, request, count_prompts(request, route))

    assert [option.changes.max_tokens for option in made.options] == [None, 16]
    assert [option.output_tokens for option in made.options] == [1000, 16]
    elastic = made.options[0].elastic
    assert elastic is not None
    assert elastic.tokens_min == 16
