"""`cost_to_serve` and `sla` in the file: defaults, units, and what is absurd in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.tenants import ApiKey
from routing.cost_to_serve import CostRules, Mode

AS_KNOWN = """
cost_to_serve:
  base_cost_per_token: 0.000002
  latency_penalty_multiplier: 1.3
  failure_buffer: 1.05
  margin_threshold: 0.35
  throttle_window_ms: 60000
  max_requests_per_window: 1000
"""


def test_the_section_loads_as_it_is_known(tmp_path: Path) -> None:
    """The section as others write it, in exact integers; its numbers are the defaults."""
    known = loaded(tmp_path, BASE + AS_KNOWN).settings.cost_rules
    empty = loaded(tmp_path, BASE + "cost_to_serve: {}").settings.cost_rules

    assert known == empty
    assert known == CostRules(
        base_rate_pico=2_000_000,
        latency_penalty_ppm=1_300_000,
        failure_buffer_ppm=1_050_000,
        margin_threshold_ppm=350_000,
        throttle_window_ms=60_000,
        max_requests_per_window=1_000,
        mode=Mode.ENFORCE,
    )


def test_without_the_section_nothing_is_judged(tmp_path: Path) -> None:
    """Who does not write it is not throttled by it, and gives no credits."""
    made = loaded(tmp_path, BASE).settings

    assert made.cost_rules.mode is Mode.OFF
    assert made.sla_credit_ppm == 0


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("cost_to_serve: {base_cost_per_token: 2}", "0.000002 is 2 USD per million"),
        ("cost_to_serve: {base_cost_per_token: -1}", "not a cost of one token"),
        ("cost_to_serve: {base_cost_per_token: 1e-13}", "finer than one pico-USD"),
        ("cost_to_serve: {failure_buffer: 0.9}", "must be from 1 to 100"),
        ("cost_to_serve: {latency_penalty_multiplier: -0.1}", "must be from 0 to 100"),
        ("cost_to_serve: {margin_threshold: 1}", "has a margin of 1"),
        ("cost_to_serve: {margin_threshold: 35}", "margin_threshold"),
        ("cost_to_serve: {margin_threshold: 0.35000001}", "part per million"),
        ("cost_to_serve: {throttle_window_ms: 0}", "throttle_window_ms"),
        ("cost_to_serve: {throttle_window_ms: 3600001}", "throttle_window_ms"),
        ("cost_to_serve: {max_requests_per_window: 0}", "max_requests_per_window"),
        ("cost_to_serve: {mode: on}", "mode"),
        ("cost_to_serve: {margin: 0.3}", "unknown key"),
        ("sla: {credit_share: 1.1}", "credit_share"),
        ("sla: {credit_share: 0.00000001}", "part per million"),
    ],
)
def test_what_is_absurd_is_a_fault(tmp_path: Path, line: str, part: str) -> None:
    """Each with the key's place, so that its author finds it."""
    found = faults(tmp_path, BASE + line)

    assert len(found) == 1
    assert part in found[0]


@pytest.mark.parametrize(
    ("section", "models"),
    [
        ("cost_to_serve: {}", ["big", "small"]),
        ("cost_to_serve: {margin_threshold: 0.1}", []),
        ("cost_to_serve: {mode: 'off'}", []),
        ("cost_to_serve: {mode: shadow}", ["big", "small"]),
    ],
)
def test_models_that_can_never_keep_the_margin_are_named(
    tmp_path: Path, section: str, models: list[str]
) -> None:
    """At a multiplier of 1.25 the margin is 0.16 at best: every request would be throttled."""
    warnings = [str(each) for each in loaded(tmp_path, BASE + section).warnings]

    named = [each for each in warnings if "margin_threshold" in each]
    assert len(named) == len(models)
    for text, name in zip(named, models, strict=True):
        assert f"up-{name} sells 1000 tokens in and out for $0.00875" in text


def test_targets_and_credits(tmp_path: Path) -> None:
    """A target per model, and the share that a late answer costs less."""
    text = BASE.replace("fallbacks: [small]}", "fallbacks: [small], target_latency_ms: 800}")

    made = loaded(tmp_path, text + "sla: {credit_share: 0.1}").settings

    assert made.models["big"].target_latency_ms == 800
    assert made.models["small"].target_latency_ms is None
    assert made.sla_credit_ppm == 100_000


TENANTS = """
tenants:
  - {id: a, keys: [{id: k, sha256: "%s", act_for: [%s]}]}
  - {id: b}
"""


def test_keys_that_act_for_others(tmp_path: Path) -> None:
    """The tenants have to be in the file; a minted key acts for nobody else."""
    made = loaded(tmp_path, BASE + TENANTS % ("ab" * 32, "b")).settings

    assert made.tenants["a"].keys == (ApiKey("k", "ab" * 32, "default", act_for=frozenset({"b"})),)
    unknown = faults(tmp_path, BASE + TENANTS % ("ab" * 32, "bee"))
    assert len(unknown) == 1
    assert "unknown tenant 'bee'" in unknown[0]
    minted = TENANTS.replace('sha256: "%s"', "mint: true") % "b"
    (fault,) = faults(tmp_path, BASE + minted)
    assert "acts for its own tenant alone" in fault


def test_who_may_set_targets_that_are_credited(tmp_path: Path) -> None:
    """Nobody; all of them; or one tenant and not another."""
    tenants = "tenants: [{id: a}, {id: b, sla: {client_targets: credit}}, "
    tenants += "{id: c, sla: {client_targets: inform}}]\n"

    def allowed(text: str) -> list[bool]:
        made = loaded(tmp_path, BASE + tenants + text).settings.tenants
        return [tenant.targets_earn_credit for tenant in made.values()]

    assert allowed("") == [False, True, False]
    assert allowed("sla: {client_targets: credit}\n") == [True, True, False]
