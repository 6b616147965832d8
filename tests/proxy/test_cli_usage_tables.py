"""Usage over time as a table for people."""

from __future__ import annotations

from rich.console import Console

from metering.settlement.analytics import Question, figures
from metering.settlement.ledger.analytics_tables import MEASURES
from proxy import cli_usage_tables


def test_a_name_with_markup_is_shown_as_it_is() -> None:
    totals = figures(dict.fromkeys(MEASURES, 0) | {"requests": 4, "errors": 1}, {})
    answer = {
        "data": [totals | {"feature": "[red]x"}],
        "totals": totals,
        "settled_through": "2026-11-01T00:00:00Z",
        "behind": 2_000,
        "next_cursor": "more",
    }
    console = Console(width=150, record=True)

    console.print(cli_usage_tables.usage(answer, Question(0, 1, by=("feature",))))

    text = console.export_text()
    assert "[red]x" in text
    assert "25.0%" in text
    assert "2,000 settled events are not summed yet" in text
    assert "--csv has all of them" in text
