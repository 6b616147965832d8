"""`x-weir-route`: the upstream that was chosen, the others, and no word of money."""

from __future__ import annotations

import pytest
from choice_samples import choosing, plan_of, up
from fixtures_door import tenant

from proxy.errors import InvalidRequest
from proxy.explained import CHARS_MAX, explained, route_text
from proxy.settings import Server
from routing.upstreams import Model, Strategy


def test_winner_and_losers() -> None:
    """First who and why, then each other one and why not."""
    made = choosing(up("a", "large"), up("b", "small"), strategy=Strategy.LEAST_COST)

    said = explained(Server(explain=True), plan_of(made), frozenset())

    assert said == "b/small (cheapest); not a/large (dearer)"


def test_who_may_not_ask_is_told_so() -> None:
    """Names of providers are not every client's business; silence would look like a fault."""
    made = choosing(up("a", "large"))

    with pytest.raises(InvalidRequest, match=r"server\.explain") as caught:
        explained(Server(), plan_of(made), frozenset())
    assert caught.value.param == "x-weir-explain"


def test_a_fallback_is_first_while_the_model_fails() -> None:
    """The header names who is asked first, as upstreams stand."""
    spare = Model("spare", (up("c", "medium", "spare"),))
    made = choosing(up("a", "large"), up("b", "small"), others=(spare,), fallbacks=("spare",))

    def said(*failing: str) -> str:
        return route_text(plan_of(made), frozenset(failing))

    assert said() == "a/large (first); not b/small (later); not c/medium (fallback)"
    assert said("a/large", "b/small") == (
        "c/medium (healthy); not b/small (failing); not a/large (failing)"
    )
    assert said("a/large", "b/small", "c/medium").startswith("a/large (first)")


def test_a_long_route_is_cut() -> None:
    """The header stays within its bound, and says how many it leaves out."""
    many = [up(f"provider-{number:03}", "small") for number in range(100)]

    said = route_text(plan_of(choosing(*many)))

    assert len(said) <= CHARS_MAX
    told = said.count("; not ")
    assert said.endswith(f"; and {99 - told} more")


def test_only_what_a_header_can_carry() -> None:
    """Names of models may be in any script; a line break would be another header."""
    said = route_text(plan_of(choosing(up("a", "small-\u00e9\r\nx: y"), who=tenant(None))))

    assert said == "a/small-???x: y (only)"
