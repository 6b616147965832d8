"""`weir prices` and `weir rerate` over a real ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger

from metering.clock import now_ns
from metering.list_prices import read_list_prices
from metering.settlement.ledger.verify import verify
from proxy.cli import weir

FILE = """
data_dir: .
providers: {openai: {type: openai, api_key: "${KEY}"}}
models: {chat: {upstreams: [{provider: openai, model: gpt-4o}]}}
tenants: [{id: acme}]
pricing:
  rules:
    - {model: gpt-4o, input_per_mtok: 5, output_per_mtok: 15}
"""
DAY_NS = 86_400 * 10**9
LATER = (
    "    - {model: gpt-4o, input_per_mtok: 4, output_per_mtok: 15, effective_from: 2200-01-01}\n"
)
DATED = (
    "    - {model: gpt-4o, input_per_mtok: 6, output_per_mtok: 15, effective_from: 2026-01-01}\n"
)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten calls of yesterday, five USD per million in and fifteen out."""
    monkeypatch.setenv("KEY", "sk-x")
    path = tmp_path / "config.yaml"
    path.write_text(FILE, encoding="utf-8")
    ledger = new_ledger(tmp_path)
    at = now_ns() - DAY_NS
    book(ledger, [make_event(occurred_at=at + n, completed_at=at + n) for n in range(10)])
    ledger.close()
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, [*words, "--config", str(config)])


def told(config: Path, *words: str) -> Any:
    result = run(config, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def _publish(config: Path, *more: str) -> Result:
    return run(config, "prices", "publish", "--note", "why", "--by", "ann", *more)


def test_the_book_and_what_comes_later(config: Path) -> None:
    """With the place of each rule in the file."""
    config.write_text(FILE + LATER, encoding="utf-8")

    found = told(config, "prices", "list")

    assert [(each["model"], each["source"]) for each in found["rules"]] == [
        ("gpt-4o", "pricing.rules[0]")
    ]
    assert [each["effective_from"] for each in found["later"]] == ["2200-01-01T00:00:00Z"]
    assert "pricing.rules[0]" in run(config, "prices", "list").output


def test_a_model_at_a_time(config: Path) -> None:
    """By its public or its upstream name, now and then."""
    config.write_text(FILE + LATER, encoding="utf-8")

    rates = [
        told(config, "prices", "show", name, *at)["prices"][0]["cost"]["rates_pico"]
        for name, at in (("chat", ()), ("gpt-4o", ("--at", "2200-01-02")))
    ]

    assert [each["input_uncached"] for each in rates] == [5_000_000, 4_000_000]
    assert "5.00" in run(config, "prices", "show", "chat").output
    assert run(config, "prices", "show", "nothing").exit_code == 3
    assert run(config, "prices", "show", "chat", "--at", "soon").exit_code == 2


def test_a_difference_says_what_recent_usage_comes_to(config: Path) -> None:
    """Against what was published: which rates, how much, and the money."""
    _publish(config)
    assert told(config, "prices", "diff")["changes"] == []
    config.write_text(FILE.replace("per_mtok: 5,", "per_mtok: 6,") + LATER, encoding="utf-8")

    found = told(config, "prices", "diff")

    changes = {(each["from"], each["side"]): each["change_ppm"] for each in found["changes"]}
    later = "2200-01-01T00:00:00Z"
    assert changes == {
        **dict.fromkeys([(None, "cost"), (None, "sell")], 200_000),
        **dict.fromkeys([(later, "cost"), (later, "sell")], -200_000),
    }
    [row] = found["usage"]["rows"]
    assert (row["sell_change_nano"], row["changed"]) == (5_000_000, 10)
    assert "+20.00 %" in run(config, "prices", "diff").output


def test_a_difference_says_since_when_it_holds(config: Path) -> None:
    """Of a rule with a date in the past that date, with one to come that one, without one now."""
    _publish(config)
    assert {each["from"] for each in _changed(config, FILE + DATED)} == {"2026-01-01T00:00:00Z"}
    assert {each["from"] for each in _changed(config, FILE + LATER)} == {"2200-01-01T00:00:00Z"}
    plain = _changed(config, FILE.replace("per_mtok: 5,", "per_mtok: 6,"))
    assert {each["from"] for each in plain} == {None}


def _changed(config: Path, text: str) -> list[Any]:
    config.write_text(text, encoding="utf-8")
    changes = told(config, "prices", "diff")["changes"]
    assert isinstance(changes, list)
    return changes


def test_a_difference_with_a_version_or_a_file(config: Path) -> None:
    """Of a version one side; of a file both; what is neither is not found."""
    version = json.loads(_publish(config, "--json").stdout)["sell_version"]
    other = config.with_name("other.yaml")
    other.write_text(FILE.replace("per_mtok: 15", "per_mtok: 30"), encoding="utf-8")

    assert told(config, "prices", "diff", "--against", version)["changes"] == []
    found = told(config, "prices", "diff", "--against", str(other))["changes"]
    assert {(each["side"], each["change_ppm"]) for each in found} == {
        ("cost", -500_000),
        ("sell", -500_000),
    }
    for unknown in ("0" * 12, "./missing.yaml"):
        assert run(config, "prices", "diff", "--against", unknown).exit_code == 3


def test_a_rule_that_begins_in_the_past_is_refused_until_it_is_rated(config: Path) -> None:
    """The refusal says how; afterwards the same file is published."""
    _publish(config)
    config.write_text(FILE + DATED, encoding="utf-8")

    refused = _publish(config)
    assert (refused.exit_code, "10 events" in refused.output) == (1, True)
    rated = run(
        config, "rerate", "--from", "2026-01-01", "--apply", "--reason", "late", "--by", "ann"
    )
    assert rated.exit_code == 0, rated.output

    assert _publish(config).exit_code == 0
    history = told(config, "prices", "history")
    assert [each["id"] for each in history["published"]] == [2, 1]
    assert [each["reason"] for each in history["rated_again"]] == ["late"]
    assert "late" in run(config, "prices", "history").output


def test_the_past_may_be_left_as_it_is(config: Path) -> None:
    """If that is said; and nobody goes back without saying so."""
    _publish(config)
    config.write_text(FILE + DATED, encoding="utf-8")
    assert _publish(config, "--leave-past").exit_code == 0
    config.write_text(FILE, encoding="utf-8")

    assert "--back" in _publish(config).output
    assert _publish(config, "--back").exit_code == 0


def test_rating_again_books_once(config: Path, tmp_path: Path) -> None:
    """A look writes nothing; a repeat finds nothing; the books hold."""
    config.write_text(FILE.replace("per_mtok: 5,", "per_mtok: 6,"), encoding="utf-8")
    words = ("rerate", "--from", "7d", "--tenant", "acme", "--model", "gpt-4o")
    apply = (*words, "--apply", "--reason", "rise", "--by", "ann")

    looks = [told(config, *words)["changed"] for _ in range(2)]
    done = [told(config, *each)["changed"] for each in (apply, apply)]

    assert (looks, done) == ([10, 10], [10, 0])
    assert verify(new_ledger(tmp_path)) == []
    usage = told(config, "usage", "--by", "model")["rows"][0]
    assert (usage["requests"], usage["admission_nano"]) == (10, 60_000_000)
    assert "0 adjustments" in run(config, *words).output
    assert "no events there" in run(config, *words[:-1], "other").output


def test_rating_again_by_a_version(config: Path) -> None:
    """One side by its name; two of a side, an unknown one and no reason are refused."""
    named = json.loads(_publish(config, "--json").stdout)
    config.write_text(FILE.replace("per_mtok: 5,", "per_mtok: 6,"), encoding="utf-8")
    words = ("rerate", "--from", "7d", "--version")

    assert told(config, *words, named["sell_version"])["changed"] == 0
    sell = told(config, "prices", "list")["sell_version"]
    [row] = told(config, *words, sell)["rows"]
    assert (row["sell_change_nano"], row["cost_change_nano"]) == (5_000_000, 0)
    both = run(config, *words, sell, "--version", named["sell_version"])
    assert (both.exit_code, "two versions of sell" in both.output) == (2, True)
    assert run(config, *words, "0" * 12).exit_code == 3
    assert run(config, "rerate", "--from", "7d", "--apply").exit_code == 2
    assert run(config, "rerate", "--from", "7d", "--to", "8d").exit_code == 2


def test_a_review_puts_prices_beside_the_list(config: Path) -> None:
    """Ours is twice the list's input; what was earned is told."""
    found = told(config, "prices", "review")

    [row] = found["prices"]
    assert (row["input_off_ppm"], row["output_off_ppm"]) == (1_000_000, 500_000)
    [earned] = found["margins"]
    assert (earned["requests"], earned["margin_ppm"]) == (10, 0)
    assert found["drifting"] == []
    assert "+100.00 %" in run(config, "prices", "review").output


def test_an_update_says_what_it_needs(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or writes a file that can be read."""
    from proxy import list_price_update

    path = config.with_name("list.json")
    monkeypatch.setitem(__import__("sys").modules, "genai_prices.data", None)
    failed = CliRunner().invoke(weir, ["prices", "update", "--output", str(path)])
    assert (failed.exit_code, "tokenweir[prices]" in failed.output) == (1, True)

    def made(today: Any) -> tuple[bytes, list[str]]:
        return list_price_update.encode_list_prices([], source="test", today=today)[0], ["x: y"]

    monkeypatch.setattr(list_price_update, "make_list_prices", made)
    done = CliRunner().invoke(weir, ["prices", "update", "--output", str(path)])
    assert (done.exit_code, "0 models" in done.output) == (0, True)
    assert read_list_prices(path.read_bytes()).source == "test"
