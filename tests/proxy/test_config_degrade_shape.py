"""The shape of steps: what stands in a step, and what does not."""

from __future__ import annotations

from pathlib import Path

from config_samples import BASE, faults


def test_a_step_knows_its_keys(tmp_path: Path) -> None:
    """A misspelt key is named with the one that was meant; `at` must be there."""
    text = BASE.replace("fallbacks: [small]", "degrade: [{max_token: 5, at: 0.5, to: small}]")
    missing = BASE.replace("fallbacks: [small]", "degrade: [{max_tokens: 5}]")

    assert faults(tmp_path, text)[0].endswith(
        "models.big.degrade[0].max_token: unknown key (did you mean 'max_tokens'?)"
    )
    assert faults(tmp_path, missing)[0].endswith("models.big.degrade[0].at: is missing")
