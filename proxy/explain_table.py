"""`weir explain` for people: the request, its upstreams in the order of asking, caps and stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.stages_report import stage_text
from routing.fallback import Outcome

PREPAID = "prepaid_balance"
"""The window of a balance: without a limit it is not known, and never unlimited."""


def explain_table(body: Mapping[str, Any]) -> RenderableType:
    """The body of `weir explain --json` as text and tables."""
    parts: list[RenderableType] = [_head(body)]
    if body["upstreams"]:
        parts.append(_upstreams(body))
    parts += [Text(each) for each in _lines(body)]
    return Group(*parts)


def _head(body: Mapping[str, Any]) -> Text:
    who = f"{body['model']} for tenant {body['tenant']} (key {body['key']})"
    if body["refusal"] is not None:
        refusal = body["refusal"]
        return Text(f"{who}: refused, {refusal['status']} {refusal['code']}\n{refusal['message']}")
    asked = body["request"]
    uses = ", ".join(asked["uses"]) or "plain text"
    kind = "a stream" if asked["stream"] else "a whole answer"
    return Text(
        f"{who}: {asked['prompt_tokens']} tokens of prompt, at most {asked['output_tokens_max']} "
        f"of answer, {kind}, {uses}"
    )


def _upstreams(body: Mapping[str, Any]) -> Table:
    table = Table(header_style="bold")
    for heading in ("Asked", "Upstream", "Serves", "Why", "Breaker"):
        table.add_column(heading)
    for heading in ("p95 ms", "Sells in/out", "Costs in/out", "Would hold"):
        table.add_column(heading, justify="right")
    table.add_column("Takes")
    for row in body["upstreams"]:
        table.add_row(
            "" if row["asked"] is None else str(row["asked"]),
            Text(row["upstream"]),
            Text(row["serves"]),
            Text(row["reason"] or ""),
            row["breaker"] or "?",
            "" if row["p95_ms"] is None else str(row["p95_ms"]),
            _rates(row["price"], "sell"),
            _rates(row["price"], "cost"),
            "" if row["held"] is None else f"${row['held']['usd']}",
            _takes(row["abilities"]),
        )
    return table


def _rates(price: Mapping[str, str] | None, side: str) -> str:
    if price is None:
        return "no price"
    return f"{price[f'{side}_input_per_mtok']}/{price[f'{side}_output_per_mtok']}"


def _takes(abilities: Mapping[str, Any]) -> str:
    """`tools, not audio, 400000 tokens`; what is not known is not there."""
    words = [
        name if value else f"not {name}"
        for name, value in abilities.items()
        if isinstance(value, bool)
    ]
    longest, most = abilities.get("max_context_tokens"), abilities.get("max_output_tokens")
    words += [] if longest is None else [f"{longest} tokens"]
    words += [] if most is None else [f"{most} of answer"]
    return ", ".join(words) or "not known"


def _lines(body: Mapping[str, Any]) -> list[str]:
    found = []
    policy = body["strategy"]
    if policy is not None:
        found.append(f"strategy {policy['strategy']}, affinity {policy['affinity']}")
    for cap in body["caps"]:
        found += _cap_lines(cap)
    found += [f"{flag['scope']} is {flag['flag']}: {flag['why']}" for flag in body["flags"]]
    if not body["redis"]["is_read"]:
        found.append(
            f"Redis was not read ({body['redis']['cause']}): what is spent, which upstreams fail, "
            "and how fast they were, is not known here."
        )
    elif body["upstreams"] and body["refusal"] is None:
        fits = body["fits"]
        found.append(f"{fits} is the first that fits" if fits else "nothing fits whole")
    if policy is not None and policy["strategy"] == "least_busy":
        found.append("What upstreams have under way each proxy knows itself: here nothing has any.")
    if policy is not None and policy["strategy"] == "least_latency":
        found.append("This is what most requests meet; a few go elsewhere, to measure it.")
    found += [f"{_AFTER[name]}: {', '.join(where)}" for name, where in body["detours"].items()]
    for stage in body["stages"]:
        skipped = f" (not {'; '.join(stage['skipped'])})" if stage["skipped"] else ""
        found.append(f"from {stage['at']:g} of a cap on: {stage['becomes']}{skipped}")
    if body["stage"] is not None:
        found.append(f"now: {stage_text(body['stage'])}")
    return found


_AFTER = {
    str(Outcome.CONTEXT_TOO_LONG): "after a prompt that is too long",
    str(Outcome.CONTENT_POLICY): "after a refusal for a policy",
}


def _cap_lines(cap: Mapping[str, Any]) -> list[str]:
    lines = []
    if cap["window"] == PREPAID and cap["usd"]["limit"] is None:
        lines.append(
            f"cap {cap['scope']} {PREPAID} ({cap['mode']}): what is left Redis alone knows"
        )
    for name in ("usd", "tokens", "requests"):
        found = cap[name]
        if found["limit"] is None:
            continue
        left = f", {found['remaining']} left" if "remaining" in found else ""
        lines.append(
            f"cap {cap['scope']} {cap['window']} ({cap['mode']}): {found['limit']} {name}{left}"
        )
    return lines
