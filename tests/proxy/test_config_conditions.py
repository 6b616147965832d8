"""Regions of a price that nothing stands in, and of upstreams that have no price."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import loaded

FILE = """\
providers:
  p: {type: bedrock, options: {region: eu-west-1}}
  q: {type: simulator}
  a: {type: anthropic, api_key: x}
models:
  m:
    upstreams: [{provider: q, model: up}, OTHERS]
pricing:
  rules:
    - {model: other, input_per_mtok: 3, output_per_mtok: 15, region: {mars: {factor: 9}}}
    - {model: "up*", input_per_mtok: 3, output_per_mtok: 15REGIONS}
"""
EU = ", region: {eu-west-1: {factor: 1.1}}"

CASES: dict[str, tuple[str, str, list[str]]] = {
    "none is priced": ("{provider: p, model: up}", "", []),
    "all are priced": ("{provider: p, model: up}", EU, []),
    "one has no upstream": (
        "{provider: p, model: up}",
        ", region: {eu-west-1: {factor: 1.1}, us: {factor: 2}}",
        ["pricing.rules[1].region.us: no upstream of this rule stands in this region"],
    ),
    "one has no price": (
        "{provider: p, model: up}, {provider: q, model: up2, region: moon}",
        EU,
        ["models.m.upstreams[2].region: 'moon' is billed at the list price"],
    ),
    "Anthropic decides by itself": (
        "{provider: a, model: up}",
        ", region: {us: {factor: 1.1}}",
        [],
    ),
    "and knows no others": (
        "{provider: a, model: up}",
        ", region: {eu: {factor: 1.1}}",
        ["pricing.rules[1].region.eu: no upstream of this rule stands in this region"],
    ),
    "misspelt": (
        "{provider: p, model: up}",
        ", region: {eu-west1: {factor: 1.1}}",
        ["(did you mean 'eu-west1'?)", "(did you mean 'eu-west-1'?)"],
    ),
    "at the list price on purpose": (
        "{provider: p, model: up}, {provider: q, model: up2, region: moon}",
        ", region: {eu-west-1: {factor: 1.1}, moon: {factor: 1}}",
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_regions_are_compared_with_those_of_the_upstreams(tmp_path: Path, name: str) -> None:
    """Either way; a rule that is for none of the models is for what is reported from outside."""
    others, regions, expected = CASES[name]
    text = FILE.replace("OTHERS", others).replace("REGIONS", regions)

    found = [str(each) for each in loaded(tmp_path, text).warnings if "region" in str(each)]

    assert len(found) == len(expected)
    for words, wanted in zip(found, expected, strict=True):
        assert wanted in words
