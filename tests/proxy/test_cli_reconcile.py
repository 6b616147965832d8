"""`weir reconcile`, from files to a booked correction, over a real ledger."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger

from proxy.cli import weir

FIRST_NS = 1_793_491_200_000_000_000
USAGE = """start_time,model,project_id,num_model_requests,input_tokens,output_tokens,service_tier
1793491200,gpt-4o-2024-08-06,proj_1,1,500,200,default
1793491200,<b>other</b>,proj_2,1,9,9,default
"""
COSTS = """start_time,amount_value,amount_currency,line_item,project_id
1793491200,1.25,usd,"gpt-4o-2024-08-06, input",proj_1
1793491200,0.5,usd,"<b>other</b>, input",proj_2
"""
DAYS = ["--from", "2026-11-01", "--to", "2026-11-01"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """One call of acme on the first of November, and the two exports of that day."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "data_dir: .\nproviders:\n"
        "  openai: {type: openai, api_key: '${NO_KEY}', reconcile: {project_ids: [proj_1]}}\n"
        "  other: {type: openai, api_key: '${NO_KEY}'}\n"
        "tenants: [{id: acme}]\n"
    )
    ledger = new_ledger(tmp_path)
    book(ledger, [make_event(occurred_at=FIRST_NS + 5, model_answered="gpt-4o-2024-08-06")])
    ledger.close()
    for name, body in (("usage.csv", USAGE), ("costs.csv", COSTS)):
        file = tmp_path / name
        file.write_text(body)
        os.utime(file, ns=(FIRST_NS + 10**15, FIRST_NS + 10**15))
    return path


def _weir(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, ["reconcile", *words, "--config", str(config)])


def _import(config: Path) -> None:
    for name in ("usage.csv", "costs.csv"):
        found = _weir(config, "import", str(config.parent / name), "--provider", "openai")
        assert (found.exit_code, "kept: " in found.output) == (0, True)


def test_a_bill_is_imported_compared_and_booked(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step by itself; the second booking changes nothing."""
    monkeypatch.setattr("proxy.cli_reconciling.now_ns", lambda: FIRST_NS + 10**16)
    monkeypatch.setattr("proxy.cli_reconcile._days", lambda *_: ("2026-11-01", "2026-11-02"))
    _import(config)

    found = _weir(config, "run", "--json", *DAYS)

    assert found.exit_code == 1  # a model is more than 15 % off
    [body] = json.loads(found.stdout)["reconciliations"]
    assert body["over_alert"] == ["gpt-4o-2024-08-06"]
    assert [one["cost_nano"] for one in body["corrections"]] == [1_244_500_000]
    assert body["totals"]["foreign_nano"] == 500_000_000
    words = ["apply", str(body["id"]), "--by", "ann", "--reason", "as billed"]
    assert _weir(config, *words).output == "booked: 1 correction\n"
    assert _weir(config, *words).output == "was booked already\n"
    again = _weir(config, "run", "--stored", *DAYS)
    assert (again.exit_code, "drift 0.0%" in again.output) == (0, True)
    listed = json.loads(_weir(config, "show", "--json").stdout)["reconciliations"]
    assert [row["applied"] and row["applied"]["by"] for row in listed] == [None, "ann"]


def test_the_page_needs_nothing_else_and_believes_nobody(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No script, no address; what a file says is text."""
    monkeypatch.setattr("proxy.cli_reconcile._days", lambda *_: ("2026-11-01", "2026-11-02"))
    _import(config)
    page = config.parent / "page.html"

    shown = _weir(config, "run", *DAYS, "--html", str(page), "--all")

    written = page.read_text(encoding="utf-8")
    tags: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.add(tag)
            assert {name for name, _ in attrs} <= {"class", "lang", "charset", "name", "content"}

    Reader().feed(written)
    assert tags <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table",
                    "thead", "tbody", "tr", "th", "td"}  # fmt: skip
    assert "&lt;b&gt;other" in written
    assert "key_unknown" in shown.output
    assert "url(" not in written
    assert "@import" not in written


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["run", "--provider", "nobody"], 3, "no provider 'nobody'"),
        (["show", "7"], 3, "no comparison 7"),
        (["apply", "7", "--by", "a", "--reason", "r"], 1, "there is no comparison 7"),
        (["apply", "7", "--by", " ", "--reason", "r"], 2, "may not be empty"),
        (["run", "--from", "tomorrow"], 2, "is not a day"),
        (["run", "--from", "2026-02-02", "--to", "2026-02-01"], 2, "comes after"),
        (["show"], 0, "no comparisons yet"),
    ],
)
def test_what_there_is_not(config: Path, words: list[str], exit_code: int, said: str) -> None:
    """Is said, with the exit code of its kind."""
    found = _weir(config, *words)

    assert (found.exit_code, said in found.output) == (exit_code, True), found.output


def test_another_file_is_no_export(config: Path) -> None:
    """It says which columns there should be."""
    (config.parent / "a.csv").write_text("a,b\n1,2\n")

    found = _weir(config, "import", str(config.parent / "a.csv"), "--provider", "openai")

    assert found.exit_code == 1
    assert "usage_date_utc" in found.output
    assert _weir(config, "import", str(config), "--provider", "nobody").exit_code == 3
