"""Choosing in the file: read into terms, and warned of where it can never mean anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import faults, loaded

from routing.abilities import Abilities
from routing.affinity import Affinity
from routing.conditions import When
from routing.upstreams import Policy, Strategy

HEAD = """\
providers:
  one: {type: simulator}
  two: {type: openai, base_url: "http://localhost:1/v1", options: {}}
pricing:
  rules: [{model: "*", input_per_mtok: 1, output_per_mtok: 2}]
tenants: [{id: acme, keys: [{id: k1, sha256: "%s"}]}]
models:
""" % ("0" * 64)

FULL = """\
  auto:
    strategy: least_cost
    affinity: auto
    supports: {tools: true, vision: false}
    max_output_tokens: 900
    upstreams:
      - provider: one
        model: m1
        weight: 3
        priority: 2
        region: eu-west-1
        tags: [eu, fast]
        supports: {vision: true, audio: false}
        max_context_tokens: 5000
        when: {feature: [chat, "mail-*"], tags: [eu], stream: true, min_prompt_tokens: 10,
          metadata: {tier: [gold]}}
      - {provider: two, model: claude-haiku-4-5, enabled: false, when: {}}
"""


def test_everything_is_read(tmp_path: Path) -> None:
    """Each key lands in the terms of its upstream; what it leaves out comes from the model, then
    from the list of known ones."""
    model = loaded(tmp_path, HEAD + FULL).settings.models["auto"]
    first, second = model.upstreams

    assert model.policy == Policy(Strategy.LEAST_COST, Affinity.AUTO)
    assert (first.region, first.terms.weight, first.terms.priority) == ("eu-west-1", 3, 2)
    assert first.terms.tags == {"eu", "fast"}
    assert first.terms.abilities == Abilities(
        tools=True, vision=True, audio=False, max_context_tokens=5000, max_output_tokens=900
    )
    assert first.terms.when == When(
        labels=(("feature", ("chat", "mail-*")),),
        metadata=(("tier", ("gold",)),),
        tags=("eu",),
        stream=True,
        min_prompt_tokens=10,
    )
    assert (second.terms.is_enabled, second.terms.when) == (False, None)
    assert second.terms.abilities == Abilities(
        tools=True, vision=False, audio=False, reasoning=True,
        max_context_tokens=200_000, max_output_tokens=900,
    )  # fmt: skip


def _warnings(directory: Path, text: str) -> list[str]:
    return [each.message for each in loaded(directory, HEAD + text).warnings]


def _model(upstreams: str, more: str = "") -> str:
    return f"  auto: {{{more} upstreams: [{upstreams}]}}\n"


WARNED = {
    "weights all zero": (
        _model("{provider: one, model: a, weight: 0}, {provider: one, model: b, weight: 0}",
               "strategy: weighted,"),
        "every weight of priority 0 is 0",
    ),
    "a weight nobody reads": (
        _model("{provider: one, model: a, weight: 5}, {provider: one, model: b}"),
        "nobody reads it",
    ),
    "all off": (_model("{provider: one, model: a, enabled: false}"), "none is enabled"),
    "prompt bounds crossed": (
        _model("{provider: one, model: a, when: {min_prompt_tokens: 9, max_prompt_tokens: 5}}"),
        "above max_prompt_tokens (5)",
    ),
    "longer than the context": (
        _model("{provider: one, model: a, max_context_tokens: 99, when: {min_prompt_tokens: 99}}"),
        "takes 99 tokens in all",
    ),
    "tags it has not": (
        _model("{provider: one, model: a, tags: [eu], when: {tags: [us]}}"),
        "needs an upstream that has it",
    ),
    "no such tenant": (
        _model("{provider: one, model: a, when: {tenant: [globex]}}"),
        "there is no such tenant",
    ),
    "no such key": (
        _model('{provider: one, model: a, when: {key: ["k9*"]}}'), "there is no such key",
    ),
    "no larger window": (
        "  small: {upstreams: [{provider: one, model: b, max_context_tokens: 50}]}\n"
        + _model("{provider: one, model: a, max_context_tokens: 99}",
                 "context_fallbacks: [small],"),
        "it takes 50 tokens, and this model 99",
    ),
    "no values": (
        _model("{provider: one, model: a, when: {metadata: {tier: []}}}"), "no value is written",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WARNED)
def test_what_is_hardly_meant(tmp_path: Path, name: str) -> None:
    """One warning, at the key that should be mended."""
    text, message = WARNED[name]

    found = _warnings(tmp_path, text)

    assert len(found) == 1
    assert message in found[0]


def test_what_is_meant_is_not_warned_of(tmp_path: Path) -> None:
    """Conditions on tenants and keys that are there, and weights that are read."""
    text = _model(
        "{provider: one, model: a, weight: 0, when: {tenant: [ac*], key: [k1]}}, "
        "{provider: one, model: b, weight: 9}",
        "strategy: weighted,",
    )

    assert _warnings(tmp_path, text) == []


def test_least_cost_without_a_price(tmp_path: Path) -> None:
    """What has no price cannot be compared, and goes last."""
    text = HEAD.replace('"*"', "a") + _model(
        "{provider: one, model: a}, {provider: one, model: b}", "strategy: least_cost,"
    )

    messages = [each.message for each in loaded(tmp_path, text).warnings]

    assert "`least_cost` cannot compare one/b, which has no price: it goes last" in messages


FAULTY = {
    "a strategy that is none": (
        _model("{provider: one, model: a}", "strategy: cheapest,"), "strategy",
    ),
    "one place twice": (
        _model("{provider: one, model: a}, {provider: one, model: a, region: eu}"),
        "stands here twice",
    ),
    "a tag with a comma": (_model('{provider: one, model: a, tags: ["a,b"]}'), "x-weir-tags"),
    "a region with a space": (
        _model('{provider: one, model: a, region: "e u"}'), "no name of a region",
    ),
    "a negative weight": (_model("{provider: one, model: a, weight: -1}"), "weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTY)
def test_what_cannot_be_used(tmp_path: Path, name: str) -> None:
    """A fault, and only that."""
    text, message = FAULTY[name]

    found = faults(tmp_path, HEAD + text)

    assert len(found) == 1
    assert message in found[0]


def test_what_is_switched_off_needs_no_price(tmp_path: Path) -> None:
    """It costs nobody anything."""
    capped = "tenants: [{id: acme, limits: {tenant: {daily_cap: 1}}}]\n"
    head = HEAD.replace('"*"', "a").partition("tenants:")
    text = head[0] + capped + "models:\n"
    off = _model("{provider: one, model: a}, {provider: one, model: b, enabled: false}")

    assert loaded(tmp_path, text + off).warnings == ()
    assert len(faults(tmp_path, text + off.replace("false", "true"))) == 1
