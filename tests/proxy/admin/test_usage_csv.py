"""Usage as rows of a CSV file."""

from __future__ import annotations

from metering.settlement.analytics import Question, figures
from metering.settlement.ledger.analytics_tables import MEASURES
from proxy.admin.usage_csv import csv_rows


def test_a_row_has_a_value_for_each_heading_and_no_formula() -> None:
    """With and without what providers charge."""
    sums = dict.fromkeys(MEASURES, 0) | {"sell_nano": 5, "q_output_text": 7}
    row = {"start": "2026-11-01", "feature": "=cmd()"} | figures(sums, {})
    question = Question(0, 1, "day", ("feature",))

    for sees_cost, heading in ((True, True), (False, False)):
        head, line = list(csv_rows([row], question, sees_cost=sees_cost))
        told = dict(zip(head, line, strict=True))
        assert told["feature"] == "'=cmd()"
        assert (told["tokens"], told["output_text"], told["sell_usd"]) == (7, 7, "0.000000005")
        assert ("cost_usd" in told) is heading
