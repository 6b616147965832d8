"""What `weir demo` asks: requests of many kinds, for tenants of many kinds, from a seed. Pure.

Rules: every kind of thing that a screen shows happens within a few minutes, and nothing of it is
made up: these are requests like anybody's, over HTTP, to models of the bundled simulator.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MODELS = ("large", "small", "thinker", "tools", "busy", "broken")
"""What is asked for: models of the demonstration's configuration."""

KEYS: Mapping[str, float] = {
    "acme.web": 4.0,
    "acme.batch": 2.0,
    "brook.app": 3.0,
    "corner.till": 1.0,
    "drip.app": 1.0,
    "prudent.app": 1.5,
}
"""`tenant.key`, and how much of the load it is."""

_FEATURES = ("chat", "search", "summaries", "support")
_USERS = ("ann", "ben", "cho", "dee", "eli", "fay", "gus", "hana")
_THINGS = ("rivers", "bridges", "mills", "fish ladders", "canals", "tides", "wells", "ferries")
_FAQ = ("What is a weir?", "How do I pay?", "Where is my invoice?")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; `leave_after` is how many bytes the client reads before it goes away."""

    key: str
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    leave_after: int | None = None


def asks(seed: int, keys: Mapping[str, float] = KEYS) -> Iterator[Ask]:
    """Requests without end, shared among the keys; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - a demonstration, no secret
    names, shares = list(keys), list(keys.values())
    kinds, weights = [kind for kind, _ in _KINDS], [weight for _, weight in _KINDS]
    while True:
        [key] = chance.choices(names, shares)
        [kind] = chance.choices(kinds, weights)
        ask = kind(chance, key)
        yield Ask(ask.key, ask.path, ask.body, {**_labels(chance), **ask.headers}, ask.leave_after)


def _labels(chance: random.Random) -> dict[str, str]:
    """Who and what it is for; a fifth says nothing."""
    if chance.random() < 0.2:
        return {}
    return {
        "x-weir-feature": chance.choice(_FEATURES),
        "x-weir-user": chance.choice(_USERS),
        "x-weir-session": f"s-{chance.randrange(40)}",
    }


def _chat(
    chance: random.Random, key: str, *, model: str = "large", stream: bool = True, **more: Any
) -> Ask:
    question = f"Tell me about {chance.choice(_THINGS)}, in {chance.randint(2, 9)} sentences."
    body = {
        "model": model,
        "stream": stream,
        "max_tokens": chance.choice((60, 120, 200)),
        "messages": [{"role": "user", "content": question}],
    }
    return Ask(key, "/v1/chat/completions", body | more)


def _streamed(chance: random.Random, key: str) -> Ask:
    return _chat(chance, key)


def _whole(chance: random.Random, key: str) -> Ask:
    return _chat(chance, key, model="small", stream=False)


def _long(chance: random.Random, key: str) -> Ask:
    return _chat(chance, key, max_tokens=700)


def _thinking(chance: random.Random, key: str) -> Ask:
    return _chat(chance, key, model="thinker")


def _repeated(chance: random.Random, key: str) -> Ask:
    """The same question as somebody's before: an answer that is kept."""
    messages = [{"role": "user", "content": chance.choice(_FAQ)}]
    return _chat(chance, key, stream=False, messages=messages, temperature=0, max_tokens=80)


def _tool(chance: random.Random, key: str) -> Ask:
    function = {
        "name": "water_level",
        "description": "The level of a river, in metres",
        "parameters": {"type": "object", "properties": {"river": {"type": "string"}}},
    }
    ask = _chat(chance, key, model="tools", tools=[{"type": "function", "function": function}])
    run = f"run-{chance.randrange(6)}"
    headers = {"x-weir-run": run, "x-weir-step": str(chance.randint(1, 8))}
    return Ask(ask.key, ask.path, ask.body, headers)


def _limited(chance: random.Random, key: str) -> Ask:
    return _chat(chance, key, model="busy")


def _broken(chance: random.Random, key: str) -> Ask:
    return _chat(chance, key, model="broken")


def _left(chance: random.Random, key: str) -> Ask:
    """The client goes away in the middle."""
    ask = _long(chance, key)
    return Ask(ask.key, ask.path, ask.body, leave_after=chance.randint(800, 4_000))


def _message(chance: random.Random, key: str) -> Ask:
    """In Anthropic's format."""
    body = {
        "model": "large",
        "max_tokens": 120,
        "stream": True,
        "messages": [{"role": "user", "content": f"A haiku about {chance.choice(_THINGS)}."}],
    }
    return Ask(key, "/v1/messages", body, {"anthropic-version": "2023-06-01"})


def _embedding(chance: random.Random, key: str) -> Ask:
    texts = [f"{thing} and {chance.randrange(1000)}" for thing in chance.sample(_THINGS, 4)]
    return Ask(key, "/v1/embeddings", {"model": "small", "input": texts})


_KINDS: tuple[tuple[Callable[[random.Random, str], Ask], float], ...] = (
    (_streamed, 30),
    (_whole, 15),
    (_repeated, 15),
    (_long, 6),
    (_thinking, 6),
    (_tool, 8),
    (_message, 8),
    (_embedding, 4),
    (_limited, 4),
    (_left, 3),
    (_broken, 1),
)
