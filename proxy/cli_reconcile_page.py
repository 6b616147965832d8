"""Comparisons with providers as one page of HTML that needs nothing else. Pure.

Rules: no script, no address, no font from elsewhere; whatever a provider or a file said is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from metering.money import format_usd
from proxy.cli_reconcile_tables import name_of, per_mtok, percent, sides, summary

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;
color:#1b1f24;background:#fff}
h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid #d7dce2}
th{font-weight:600;background:#f4f6f8}.n{text-align:right}
.warn{background:#fff6e0}.alert{background:#fde8e6}.provisional{color:#6a737d}
@media(prefers-color-scheme:dark){body{color:#e6e9ec;background:#15181c}
th{background:#22272e}th,td{border-color:#363d46}.warn{background:#3d3214}.alert{background:#4a1f1c}}
@media print{body{margin:0;max-width:none}tr{break-inside:avoid}}
"""
_NUMBERS = frozenset(
    {"Ours", "Theirs", "Off", "Drift", "Booked", "Provider", "Sold", "Capture", "Margin", "Cost"}
    | {"True margin", "Over units", "Booked cost", "True cost"}
)


def page(bodies: Sequence[Mapping[str, Any]]) -> str:
    """The page of these comparisons; `bodies` are as `weir reconcile show --json` gives them."""
    parts = "".join(_comparison(body) for body in bodies)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Reconciliation</title><style>{_STYLE}</style></head><body>{parts}</body></html>\n"
    )


def _comparison(body: Mapping[str, Any]) -> str:
    title = f"{body['provider']}, {body['from']} to {body['to']}"
    head = "".join(f"<p>{escape(line)}</p>" for line in summary(body))
    gaps = [line for line in body["lines"] if line["gap"] is not None]
    parts = [
        f"<h1>{escape(title)}</h1>{head}",
        _section("Models", _MODELS, map(_model, body["models"])),
        _section("Tenants", _TENANTS, map(_tenant, body["tenants"])),
        _section("Gaps", _GAPS, map(_gap, gaps)),
        _section(
            "Proposed prices (USD per million)", _CHANGES, map(_change, body["price_changes"])
        ),
        _section("Proposed corrections", _CORRECTIONS, map(_correction, body["corrections"])),
    ]
    return "".join(parts)


_Row = tuple[str, Sequence[str]]
"""The class of a row, and its cells."""

_MODELS = ("Model", "Booked", "Provider", "Drift", "Sold", "Capture", "Margin", "True margin")
_TENANTS = ("Tenant", "Booked cost", "True cost", "Sold", "True margin")
_GAPS = ("Day", "Model", "Unit", "Tier", "Ours", "Theirs", "Off", "Drift", "Gap", "Level")
_CHANGES = ("Model", "Unit", "Ours", "Theirs", "Over units")
_CORRECTIONS = ("Day", "Model", "Tenant", "Project", "Key", "Why", "Cost")


def _section(title: str, headings: Sequence[str], rows: Iterable[_Row]) -> str:
    found = list(rows)
    if not found:
        return f"<h2>{escape(title)}</h2><p>None.</p>"
    kinds = ["n" if heading in _NUMBERS else "" for heading in headings]
    head = "".join(_cell("th", kind, text) for kind, text in zip(kinds, headings, strict=True))
    lines = []
    for name, cells in found:
        row = "".join(_cell("td", kind, text) for kind, text in zip(kinds, cells, strict=True))
        lines.append(f'<tr class="{name}">{row}</tr>' if name else f"<tr>{row}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f"<h2>{escape(title)}</h2>{table}"


def _cell(tag: str, kind: str, text: str) -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<{tag}{attribute}>{escape(text)}</{tag}>"


def _model(row: Mapping[str, Any]) -> _Row:
    cells = (
        name_of(row["model"]),
        format_usd(row["booked_nano"]),
        format_usd(row["provider_nano"]),
        percent(row["drift_ppm"]),
        format_usd(row["sold_nano"]),
        percent(row["capture_ppm"]),
        percent(row["booked_margin_ppm"]),
        percent(row["true_margin_ppm"]),
    )
    return "alert" if row["is_over"] else "", cells


def _tenant(row: Mapping[str, Any]) -> _Row:
    amounts = (format_usd(row[name]) for name in ("booked_nano", "true_nano", "sold_nano"))
    return "", (row["tenant"], *amounts, percent(row["true_margin_ppm"]))


def _gap(line: Mapping[str, Any]) -> _Row:
    place = (line["day"], name_of(line["model"]), line["unit"], line["tier"])
    level = line["level"]
    name = level if level in ("warn", "alert", "provisional") else ""
    return name, (*place, *sides(line), percent(line["drift_ppm"]), line["gap"], level)


def _change(row: Mapping[str, Any]) -> _Row:
    rates = per_mtok(row["ours_pico"]), per_mtok(row["theirs_pico"])
    return "", (row["model"], row["unit"], *rates, f"{row['quantity']:,}")


def _correction(row: Mapping[str, Any]) -> _Row:
    place = (row["day"], name_of(row["model"]), row["tenant"], row["project"], row["key"])
    return "", (*place, row["gap"], format_usd(row["cost_nano"]))
