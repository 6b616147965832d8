"""Price rules: slips that would bill wrongly are caught, and what is right is exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigFaults, Loaded, load


def loaded(directory: Path, text: str, **env: str) -> Loaded:
    path = directory / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, env)


def faults(directory: Path, text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigFaults) as caught:
        loaded(directory, text, **env)
    return [str(fault) for fault in caught.value.faults]


RULES: dict[str, tuple[str, str | None]] = {
    "per token in the place of per million": (
        "{model: m, input_rate: 2.50, output_per_mtok: 1}",
        (
            "input_rate: 2,500,000 USD per million tokens is more than 1000 "
            "(did you mean input_per_mtok: 2.50?)"
        ),
    ),
    "too dear": (
        "{model: m, input_per_mtok: 1001, output_per_mtok: 1}",
        "input_per_mtok: 1,001 USD per million tokens is more than 1000",
    ),
    "the dearest": ("{model: m, input_per_mtok: 1000, output_rate: 0.001}", None),
    "both forms": (
        "{model: m, input_rate: 1e-6, input_per_mtok: 1, output_rate: 1e-6}",
        "input_per_mtok: input_rate gives the same rate already (keep one of the two)",
    ),
    "neither form": (
        "{model: m, output_rate: 1e-6}",
        "input_rate or input_per_mtok is missing",
    ),
    "negative": (
        "{model: m, input_rate: -1e-6, output_rate: 1e-6}",
        "input_rate: a rate of -0.000001 is negative",
    ),
    "zero": (
        "{model: m, input_rate: 0, output_rate: 1e-6}",
        "input_rate: a rate of zero bills nothing (say `free: true` if it is meant)",
    ),
    "free": ("{model: m, free: true}", None),
    "free by numbers": ("{model: m, free: true, input_rate: 0, output_rate: 0}", None),
    "too fine": (
        "{model: m, input_rate: 1.0000001e-6, output_rate: 1e-6}",
        "input_rate: rate 0.0000010000001 is finer than one pico-USD per token",
    ),
    "multiplier": (
        "{model: m, input_rate: 1e-6, output_rate: 1e-6, multiplier: 0}",
        "multiplier: must be more than zero (say `free: true` for no charge)",
    ),
    "provider": (
        "{model: m, provider: opena, input_rate: 1e-6, output_rate: 1e-6}",
        "provider: unknown provider 'opena' (did you mean 'openai'?)",
    ),
}


@pytest.mark.parametrize(("rule", "expected"), RULES.values(), ids=RULES)
def test_price_rules(tmp_path: Path, rule: str, expected: str | None) -> None:
    """A rate that would bill wrongly is refused with what was probably meant."""
    text = f"providers: {{openai: {{type: openai}}}}\npricing:\n  rules:\n    - {rule}\n"

    if expected is None:
        assert len(loaded(tmp_path, text).settings.prices.rules) == 1
    else:
        head, found = "pricing.rules[0]", faults(tmp_path, text)
        assert [each.partition(head)[2].lstrip(".: ") for each in found] == [expected]
