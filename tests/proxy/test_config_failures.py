"""Retries, deadlines and detours in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import faults, loaded

from routing.retries import OnFailure, Retries

FILE = """
providers: {sim: {type: simulator}}
server: {deadline_s: 60}
models:
  plain: {upstreams: [{provider: sim, model: a}]}
  large: {upstreams: [{provider: sim, model: b}]}
  own:
    upstreams: [{provider: sim, model: c}]
    retries: {max: 2, max_wait_s: 1.5, backoff_s: 0.1}
    deadline_s: 12.5
    context_fallbacks: [large]
    content_policy_fallbacks: [plain, large]
    continue_on_cut: true
"""


def test_what_a_model_says_of_failures(tmp_path: Path) -> None:
    """It is read as it stands; a model that says nothing gets one retry."""
    settings = loaded(tmp_path, FILE).settings

    assert settings.server.deadline_s == 60.0
    assert settings.models["plain"].on_failure == OnFailure(retries=Retries(1, 2.0, 0.25))
    assert settings.models["own"].on_failure == OnFailure(
        Retries(2, 1.5, 0.1), 12.5, ("large",), ("plain", "large"), continue_on_cut=True
    )


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("context_fallbacks: [larg]", "unknown model 'larg'"),
        ("content_policy_fallbacks: [nobody]", "unknown model 'nobody'"),
        ("context_fallbacks: [own]", "no fallback of its own"),
        ("retries: {max: 6}", "retries.max"),
        ("retries: {max_wait_s: 61}", "retries.max_wait_s"),
        ("retries: {often: 1}", "often"),
        ("deadline_s: 0", "deadline_s"),
    ],
)
def test_what_cannot_be_meant_is_a_fault(tmp_path: Path, written: str, fault: str) -> None:
    """Unknown names and times without bounds are told by their place."""
    text = f"""
providers: {{sim: {{type: simulator}}}}
models:
  large: {{upstreams: [{{provider: sim, model: b}}]}}
  own: {{upstreams: [{{provider: sim, model: c}}], {written}}}
"""

    assert any(fault in each for each in faults(tmp_path, text))
