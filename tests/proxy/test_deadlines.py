"""By when an exchange has to be over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_door import settings

from proxy.deadlines import deadline_s
from proxy.errors import InvalidRequest
from proxy.settings import Server
from routing.retries import OnFailure
from routing.upstreams import Model


@pytest.mark.parametrize(
    ("server_s", "model_s", "asked_ms", "found_s"),
    [
        (None, None, None, None),
        (30.0, None, None, 30.0),
        (30.0, 60.0, None, 60.0),
        (None, None, 500, 0.5),
        (30.0, None, 500, 0.5),
        (30.0, 60.0, 90_000, 60.0),
        (None, 1.0, 1, 0.001),
    ],
)
def test_the_shortest_counts(
    server_s: float | None, model_s: float | None, asked_ms: int | None, found_s: float | None
) -> None:
    """The model's goes before the server's, and a request shortens what they say."""
    made = replace(
        settings({}, server=Server(deadline_s=server_s)),
        models={"m": Model("m", (), on_failure=OnFailure(deadline_s=model_s))},
    )

    assert deadline_s(made, "m", asked_ms) == found_s


def test_a_model_that_is_not_known_has_the_servers() -> None:
    """It is refused later, and elsewhere."""
    assert deadline_s(settings({}, server=Server(deadline_s=2.0)), "none", None) == 2.0


def test_no_time_at_all_is_none() -> None:
    """Zero milliseconds are a slip."""
    with pytest.raises(InvalidRequest, match="x-weir-deadline-ms"):
        deadline_s(settings({}), "m", 0)
