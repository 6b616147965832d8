"""A document as one HTML file: no script, no link, nothing loaded; it prints as it looks. Pure.

Everything that comes from outside is escaped, and the policy in the head lets nothing run or load
even where that should fail. The head of the table repeats on each printed page.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from metering.settlement.document_rows import (
    HEADINGS,
    Section,
    facts_of,
    notes_of,
    party_lines,
    provenance_of,
    sections_of,
    subtotals_of,
    title_of,
    totals_of,
)

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 10pt/1.45 "DejaVu Sans", Verdana, system-ui, sans-serif; color: #1c2733;
  max-width: 190mm; margin: 12mm auto; padding: 0 6mm; }
header { display: flex; justify-content: space-between; gap: 12mm; margin-bottom: 9mm; }
header img { max-height: 18mm; max-width: 60mm; display: block; margin-bottom: 3mm; }
h1 { font-size: 19pt; font-weight: 600; margin: 0 0 3mm; text-align: right; }
h2 { font-size: 10pt; font-weight: 600; margin: 7mm 0 1.5mm; }
.party { overflow-wrap: anywhere; } .party strong { font-size: 11pt; }
.draft { color: #9a3b00; }
dl { display: grid; grid-template-columns: auto auto; gap: .4mm 5mm; margin: 0; }
dt { color: #5a6875; } dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
.to { margin-bottom: 8mm; } .to span { color: #5a6875; display: block; }
table { border-collapse: collapse; width: 100%; font-size: 9pt; }
thead { display: table-header-group; }
th { text-align: left; border-bottom: .4mm solid #1c2733; padding: 1mm 1.5mm; }
td { padding: 1.1mm 1.5mm; border-bottom: .15mm solid #d5dbe1; vertical-align: top; }
tr { break-inside: avoid; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.what { overflow-wrap: anywhere; } .what small { display: block; color: #5a6875; }
.line { color: #8592a0; width: 9mm; }
tr.section td { font-weight: 600; border-bottom: .2mm solid #8592a0; padding-top: 3.5mm;
  break-after: avoid; }
.all { width: 95mm; margin: 5mm 0 0 auto; break-inside: avoid; } .all td { border: 0; }
.by { width: 111mm; } h2 { break-after: avoid; }
.all tr:last-child td { font-weight: 700; font-size: 11pt;
  border-top: .4mm solid #1c2733; border-bottom: 0; }
.notes { margin-top: 7mm; } .notes p { margin: 0 0 1mm; }
footer { margin-top: 8mm; white-space: pre-line; }
.from { margin-top: 6mm; color: #5a6875; font-size: 7pt; overflow-wrap: anywhere; }
@page { size: A4; margin: 14mm 12mm 16mm;
  @bottom-right { content: "Page " counter(page) " of " counter(pages); font-size: 7pt; } }
@media print { body { margin: 0; padding: 0; max-width: none; } }
""".strip()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document_html(
    document: Mapping[str, Any], *, logo: bytes | None = None, simple: bool = False
) -> bytes:
    """The document as a page; `logo` is a PNG or a JPEG."""
    title = title_of(document)
    name = _text(" ".join(filter(None, (title, document["number"] or document["period"]))))
    columns = "".join(
        f'<th scope="col"{_number(n)}>{_text(heading)}</th>' for n, heading in enumerate(HEADINGS)
    )
    body = "".join(_section(each) for each in sections_of(document, simple=simple))
    lines = f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>" if body else ""
    final = "" if document["status"] == "final" else ' class="draft"'
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>\n{_STYLE}\n</style></head><body>\n"
        f'<header><div class="party">{_logo(logo)}{_party(document["issuer"])}</div>\n'
        f"<div><h1{final}>{_text(title)}</h1>{_facts(facts_of(document))}</div></header>\n"
        f'<div class="to party"><span>Bill to</span>{_party(document["customer"])}</div>\n'
        f"{lines}\n{_sums(document)}\n"
        f"{_paragraphs('notes', notes_of(document))}{_footer(document['footer'])}"
        f"{_provenance(document)}</body></html>\n"
    )
    return page.encode()


def _text(value: str) -> str:
    return escape(value, quote=True)


def _number(column: int) -> str:
    return ' class="n"' if column > 1 else ""


def _logo(logo: bytes | None) -> str:
    if logo is None:
        return ""
    kind = "png" if logo.startswith(b"\x89PNG") else "jpeg"
    data = base64.b64encode(logo).decode()
    return f'<img alt="" src="data:image/{kind};base64,{data}">'


def _party(party: Mapping[str, Any]) -> str:
    lines = [_text(line) for line in party_lines(party)]
    if lines and party["name"]:
        lines[0] = f"<strong>{lines[0]}</strong>"
    return "<br>".join(lines)


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(a)}</dt><dd>{_text(b)}</dd>" for a, b in facts) + "</dl>"


def _section(section: Section) -> str:
    rows = [
        f'<tr><td class="line">{row.line}</td><td class="what">{_text(row.item)}'
        + (f"<small>{_text(row.detail)}</small>" if row.detail else "")
        + f'</td><td class="n">{_text(row.quantity)}</td><td class="n">{_text(row.rate)}</td>'
        f'<td class="n">{row.amount}</td></tr>\n'
        for row in section.rows
    ]
    head = (
        f'<tr class="section"><td colspan="4">{_text(section.title)}</td>'
        f'<td class="n">{section.amount}</td></tr>\n'
    )
    return head + "".join(rows)


def _sums(document: Mapping[str, Any]) -> str:
    parts = [f'<div class="all">{_pairs(totals_of(document))}</div>']
    for name, title in (("project", "By project"), ("model", "By model")):
        if rows := subtotals_of(document, name):
            parts.append(f'<div class="by"><h2>{title}</h2>{_pairs(rows)}</div>')
    return "".join(parts)


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    found = [
        f'<tr><td class="what">{_text(a)}</td><td class="n">{_text(b)}</td></tr>' for a, b in rows
    ]
    return f"<table><tbody>{''.join(found)}</tbody></table>"


def _paragraphs(name: str, texts: Iterable[str]) -> str:
    found = "".join(f"<p>{_text(text)}</p>" for text in texts)
    return f'<div class="{name}">{found}</div>\n' if found else ""


def _footer(text: str) -> str:
    return f"<footer>{_text(text)}</footer>\n" if text else ""


def _provenance(document: Mapping[str, Any]) -> str:
    found = "<br>".join(f"{_text(a)}: {_text(b)}" for a, b in provenance_of(document))
    return f'<div class="from">Amounts in {_text(document["currency"])}. Made from<br>{found}</div>'
