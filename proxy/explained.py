"""The answer to `x-weir-explain`: a header with the upstream that was chosen and the others. Pure.

It names providers, upstream models and words of `docs/routing.md`, never what anything costs us.
Who may ask is a setting: the names of the providers behind a model are not every tenant's business.
"""

from __future__ import annotations

from collections.abc import Set

from proxy.asked_first import asked_first
from proxy.errors import InvalidRequest
from proxy.planning import Plan
from proxy.settings import Server
from proxy.wishes import EXPLAIN

CHARS_MAX = 1_000
"""What is longer, proxies on the way may refuse with the whole answer."""


def explained(server: Server, plan: Plan, failing: Set[str]) -> str:
    """`openai/gpt-5.4-mini (cheapest); not gemini/gemini-3.5-flash (dearer)`.

    `failing` are the labels of upstreams that are passed over now.
    Raises InvalidRequest where nobody may ask.
    """
    if not server.explain:
        raise InvalidRequest(
            f"The header `{EXPLAIN}` is not answered here. Leave it out, or set `server.explain` "
            "in the configuration.",
            param=EXPLAIN,
        )
    return route_text(plan, failing)


def route_text(plan: Plan, failing: Set[str] = frozenset()) -> str:
    """The route of a request in one line of plain characters, cut where it is too long."""
    found = asked_first(plan, failing)
    said = _plain(f"{found.order[0].upstream.label} ({found.word})")
    for index, (upstream, reason) in enumerate(found.reasons.items()):
        more = _plain(f"; not {upstream.label} ({reason})")
        left = f"; and {len(found.reasons) - index} more"
        if len(said) + len(more) + len(left) > CHARS_MAX:
            return said[: CHARS_MAX - len(left)] + left
        said += more
    return said


def _plain(text: str) -> str:
    """What a header can carry: printable ASCII."""
    return "".join([char if " " <= char <= "~" else "?" for char in text])
