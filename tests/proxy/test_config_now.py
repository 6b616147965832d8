"""The file as of now: rules that have begun hold, others do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import AFTER_ALL_NS, ConfigFaults, load
from proxy.config_now import load_now

FILE = """
providers: {p: {type: openai, api_key: "${KEY}"}}
models: {m: {upstreams: [{provider: p, model: m}]}}
tenants: [{id: acme, limits: {tenant: {daily_cap: 5}}}]
pricing:
  rules:
    - {model: m, input_per_mtok: 1, output_per_mtok: 1}
    - {model: m, input_per_mtok: 2, output_per_mtok: 2, effective_from: 2001-01-01}
    - {model: m, input_per_mtok: 3, output_per_mtok: 3, effective_from: "2200-01-01T12:00:00Z"}
"""
ENV = {"KEY": "sk-x"}


def _rate(path: Path, **options: int) -> int:
    price = load(path, ENV, **options).settings.prices.find(
        provider="p", model="m", public_name="m"
    )
    assert price is not None
    return price.cost.rates_pico["input_uncached"]


def test_prices_are_those_of_the_time(tmp_path: Path) -> None:
    """Without a time those of the newest rule; now those that have begun."""
    path = tmp_path / "config.yaml"
    path.write_text(FILE, encoding="utf-8")

    assert _rate(path) == _rate(path, now_ns=AFTER_ALL_NS) == 3_000_000
    assert _rate(path, now_ns=1) == 1_000_000
    book = load_now(path, ENV).settings.prices
    assert book.effective_from_ns == 978_307_200 * 10**9
    assert len(book.eras) == 3


def test_a_model_whose_first_price_is_to_come_has_none_yet(tmp_path: Path) -> None:
    """It is refused under a cap today, so the file is refused today."""
    path = tmp_path / "config.yaml"
    text = FILE.replace("pricing:\n", 'pricing:\n  effective_from: "2199-01-01"\n')
    text = text.replace(", effective_from: 2001-01-01", "")
    path.write_text(text.replace("{model: m, input_per_mtok: 2", "{model: n, input_per_mtok: 2"))

    with pytest.raises(ConfigFaults, match="no price"):
        load_now(path, ENV)
    assert _rate(path) == 3_000_000


@pytest.mark.parametrize(
    ("written", "why"), [("soon", "neither a date nor"), ("1969-01-01", "before 1970")]
)
def test_a_date_is_checked_where_it_stands(tmp_path: Path, written: str, why: str) -> None:
    """With the path of the rule."""
    path = tmp_path / "config.yaml"
    path.write_text(FILE.replace("2001-01-01", written), encoding="utf-8")

    with pytest.raises(ConfigFaults) as caught:
        load(path, ENV)

    [fault] = caught.value.faults
    assert fault.path == "pricing.rules[1].effective_from"
    assert why in fault.message
