"""Steps in the file: decoded, inherited, and checked to lead to something cheaper."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import faults, loaded

from metering.steps import Step, Steps
from routing.abilities import Abilities

MODELS = """
providers: {sim: {type: simulator}}
pricing:
  rules:
    - {model: d, input_per_mtok: 2, output_per_mtok: 10}
    - {model: c, input_per_mtok: 1, output_per_mtok: 1}
    - {model: x, input_per_mtok: 4, output_per_mtok: 5}
models:
  cheap: {upstreams: [{provider: sim, model: c}], supports: {tools: false},
    max_context_tokens: 8000}
  cross: {upstreams: [{provider: sim, model: x}]}
  dear:
    upstreams: [{provider: sim, model: d}]
"""

FILE = (
    MODELS
    + """
    degrade: [{at: 0.5, to: cheap}]
    degrade_hysteresis: 0.1
    degrade_min_dwell_s: 0
limits:
  tenant: {daily_cap: 5, degrade: [{at: 0.8, to: cheap, max_tokens: 512},
    {at: 0.9, instruct: brief}]}
  degrade_mode: shadow
  allow_no_degrade: false
tenants:
  - {id: heir, projects: [{id: p, degrade: []}, {id: q, degrade: [{at: 0.01, max_tokens: 1}]}]}
  - {id: burst, limits: {tenant: {burst_threshold: 0.7, fallback_model: cheap},
     degrade_mode: enforce, allow_no_degrade: true}}
"""
)


def test_steps_are_read_where_they_are_written(tmp_path: Path) -> None:
    """A model's, a project's and a tenant's own go before those at the top; `[]` takes them off."""
    read = loaded(tmp_path, FILE).settings
    heir, burst = read.tenants["heir"], read.tenants["burst"]

    assert read.models["dear"].steps == Steps((Step(500_000, to="cheap"),), 100_000, 0)
    assert read.models["cheap"].abilities == Abilities(tools=False, max_context_tokens=8000)
    assert heir.limits.steps == Steps(
        (Step(800_000, to="cheap", max_tokens=512), Step(900_000, instruct="brief"))
    )
    assert heir.project_steps == {
        "p": Steps((), 50_000),
        "q": Steps((Step(10_000, max_tokens=1),), 9_999),
    }
    assert (heir.steps_in_shadow, heir.may_decline_steps) == (True, False)
    assert (burst.limits.steps, burst.limits.fallback_model) == (None, "cheap")
    assert (burst.steps_in_shadow, burst.may_decline_steps) == (False, True)


def test_own_steps_replace_an_inherited_burst(tmp_path: Path) -> None:
    """The two ways to write steps do not mix, whoever wrote them."""
    text = MODELS + (
        "limits: {tenant: {daily_cap: 5, burst_threshold: 0.7, fallback_model: cheap}}\n"
        "tenants: [{id: t, limits: {tenant: {degrade: [{at: 0.9, to: cheap}]}}}]\n"
    )
    limits = loaded(tmp_path, text).settings.tenants["t"].limits

    assert (limits.fallback_model, limits.burst_threshold_ppm) == (None, 1_000_000)
    assert limits.steps == Steps((Step(900_000, to="cheap"),))


WRONG: dict[str, tuple[str, str]] = {
    "itself": ("[{at: 0.5, to: dear}]", "[0].to: 'dear' steps down to itself"),
    "dearer": (
        "[{at: 0.5, to: cheap}, {at: 0.6, to: cross}]",
        "[1].to: 'cross' is not cheaper than 'cheap'",
    ),
    "unknown": ("[{at: 0.5, to: chep}]", "[0].to: unknown model 'chep' (did you mean 'cheap'?)"),
    "not rising": ("[{at: 0.5, to: cheap}, {at: 0.5, max_tokens: 5}]", "[1].at: does not rise"),
    "zero": ("[{at: 0, to: cheap}]", "[0].at: must be above 0 and at most 1, not 0"),
    "over one": ("[{at: 1.01, to: cheap}]", "[0].at: must be above 0 and at most 1"),
    "no effect": ("[{at: 0.5}]", "[0]: changes nothing"),
    "false": ("[{at: 0.5, cache_only: false}]", "[0]: changes nothing"),
    "no tokens": ("[{at: 0.5, max_tokens: 0}]", "[0].max_tokens: must be at least 1"),
    "looser": (
        "[{at: 0.5, max_tokens: 5}, {at: 0.6, max_tokens: 9}]",
        "[1].max_tokens: changes nothing: 5 holds from before",
    ),
    "twice": (
        "[{at: 0.5, to: cheap}, {at: 0.6, to: cheap}]",
        "[1].to: 'cheap' serves from an earlier step on",
    ),
    "mute": ("[{at: 0.5, instruct: ' '}]", "[0].instruct: must have 1 to 4000 characters"),
    "never ends": (
        "[{at: 0.5, to: cheap}]\n    degrade_hysteresis: 0.5",
        "_hysteresis: the first step begins at 0.5 and would never end",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_faults_of_steps(tmp_path: Path, name: str) -> None:
    """Each mistake is one fault, at its place."""
    written, wanted = WRONG[name]
    found = faults(tmp_path, f"{MODELS}    degrade: {written}\n")

    assert len(found) == 1
    assert f"models.dear.degrade{wanted}" in found[0]


def test_what_is_cheaper_is_so_in_its_region(tmp_path: Path) -> None:
    """A model whose region makes it dearer than the one before is no step down."""
    text = MODELS.replace(
        "{model: c, input_per_mtok: 1, output_per_mtok: 1}",
        "{model: c, input_per_mtok: 1, output_per_mtok: 6, region: {eu: {factor: 2}}}",
    ).replace("{provider: sim, model: c}", "{provider: sim, model: c, region: eu}")

    (found,) = faults(tmp_path, f"{text}    degrade: [{{at: 0.5, to: cheap}}]\n")

    assert "'cheap' is not cheaper than 'dear'" in found


def test_steps_run_in_no_circle(tmp_path: Path) -> None:
    """Two models that step down to one another are told, whatever they cost."""
    text = (
        MODELS.replace(
            "{provider: sim, model: x}]",
            "{provider: sim, model: x}], degrade: [{at: 0.5, to: dear}]",
        )
        + "    degrade: [{at: 0.5, to: cross}]\n"
    )
    found = faults(tmp_path, text)

    assert any("the steps run in a circle: cross -> dear -> cross" in each for each in found)


def test_a_tenants_steps_lead_below_what_it_may_use(tmp_path: Path) -> None:
    """A target that undercuts no model of the tenant is a fault; no mixing, no orphans."""
    text = MODELS + (
        "limits: {tenant: {daily_cap: 5}}\n"
        "tenants:\n"
        "  - {id: t, models: [cheap], limits: {tenant: {degrade: [{at: 0.9, to: dear}]}}}\n"
        "  - {id: u, limits: {tenant: {degrade: [{at: 0.9, to: cheap}], burst_threshold: 0.5}}}\n"
        "  - {id: v, projects: [{id: p, degrade_min_dwell_s: 5}]}\n"
    )
    found = faults(tmp_path, text)

    assert len(found) == 3
    assert "'dear' is cheaper than no model that tenant 't' may use" in found[0]
    assert "stands beside burst_threshold and fallback_model" in found[1]
    assert "belongs to `degrade`" in found[2]


def test_what_works_but_is_hardly_meant_is_a_warning(tmp_path: Path) -> None:
    """No cache yet, steps that are never reached, a target that is dearer on one side."""
    text = MODELS + (
        "    degrade: [{at: 0.5, to: cross}]\n"
        "tenants: [{id: t, limits: {tenant: {degrade: [{at: 0.8, to: cheap}, "
        "{at: 0.95, cache_only: true}, {at: 0.97, instruct: brief}]}}}]\n"
    )
    found = [each.message for each in loaded(tmp_path, text).warnings]

    assert any(
        "no answers are kept: from here on every request is refused" in each for each in found
    )
    assert any("is never reached: the step before sends nothing" in each for each in found)
    assert any("input is dearer at 'cross' than at 'dear'" in each for each in found)
    assert any("tenant 't' has no cap in money" in each for each in found)
