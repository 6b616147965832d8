"""The dashboard and the alert rules in `deploy/`: every query names what there is."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures_needs import need

from proxy.metrics import Kind
from proxy.metrics_catalogue import CATALOGUE

ROOT = Path(__file__).parents[1]
DASHBOARD = json.loads((ROOT / "deploy/grafana/tokenweir.json").read_text(encoding="utf-8"))
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
RUNBOOK = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")

SERIES = {
    name: {*metric.labels, "process", "le"}
    for metric in CATALOGUE
    for name in (
        [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
        if metric.kind is Kind.HISTOGRAM
        else [metric.name]
    )
}
"""What can be scraped, with its labels."""


def _panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel["panels"] if panel["type"] == "row" else ()


QUERIES = [
    *(
        (f"{panel['title']}-{target['refId']}", target["expr"])
        for panel in _panels()
        for target in panel.get("targets", ())
    ),
    *((rule["alert"], rule["expr"]) for rule in RULES),
]


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_every_query_names_what_there_is(where: str, query: str) -> None:
    """Its metrics are in the catalogue, a counter is asked for its rate, and labels are theirs."""
    named = re.findall(r"\bweir_\w+", query)
    kinds = {metric.name: metric.kind for metric in CATALOGUE}

    assert named, where
    assert [name for name in named if name not in SERIES] == []
    labels = {label for name in named for label in SERIES[name]}
    asked = [label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")]
    asked += re.findall(r"[{,](\w+)[=!]~?\"", query)
    assert [label for label in asked if label.strip() not in labels] == []
    for name in named:
        if kinds.get(name) is Kind.COUNTER:
            assert re.search(rf"(?:rate|increase)\({name}[{{\[]", query), name


def test_legends_name_labels_that_are_there() -> None:
    """What a legend shows is what the query groups by."""
    for panel in _panels():
        for target in panel.get("targets", ()):
            shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
            grouped = re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"])))
            assert [name for name in shown if name not in grouped] == [], panel["title"]


def test_panels_do_not_overlap() -> None:
    """Each lies within the 24 columns, and on no other; ids are their own."""
    taken: set[tuple[int, int]] = set()
    for panel in _panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in _panels()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_every_rule_says_what_to_do(rule: dict[str, Any]) -> None:
    """It has a severity that somebody acts on, a summary, and a section in the documentation."""
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    notes = rule["annotations"]
    assert notes["runbook_url"] == f"docs/telemetry.md#{rule['alert'].lower()}"
    section = RUNBOOK.partition(f"### {rule['alert']}\n")[2].partition("\n### ")[0]
    assert notes["summary"] in section
    assert len(section.split()) > len(notes["summary"].split()) + 8


def test_no_section_is_left_of_a_rule_that_is_gone() -> None:
    """The runbook has the rules that there are."""
    assert re.findall(r"^### (Weir\w+)$", RUNBOOK, re.M) == [rule["alert"] for rule in RULES]


def test_prometheus_takes_the_files() -> None:
    """In its own judgement."""
    promtool = need("promtool")
    ran = subprocess.run(
        [promtool, "check", "config", PROMETHEUS / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(RULES)} rules found" in ran.stdout
