"""Durations of LiteLLM as windows."""

from __future__ import annotations

import pytest

from proxy.litellm_budgets import take_budgets
from proxy.litellm_import import Report


@pytest.mark.parametrize(
    ("duration", "window"),
    [("30d", "30d"), ("24h", "1d"), ("90s", None), ("60s", "1m"), ("1mo", "month"),
     ("daily", "24h"), ("31d", None), (None, None), (30, None)],
)  # fmt: skip
def test_durations(duration: object, window: str | None) -> None:
    """As the same window, or not at all and with a word about it."""
    out, report = {}, Report()  # type: ignore[var-annotated]
    settings = {"litellm_settings": {"max_budget": 3, "budget_duration": duration}}

    take_budgets(out, {"general_settings": {}, **settings}, report)

    assert [each["window"] for each in out.get("limits", {}).get("caps", ())] == (
        [] if window is None else [window]
    )
    assert bool(report.dropped) is (window is None)
