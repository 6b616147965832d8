"""From a public model name to the upstreams that can serve it.

A **model** is what clients ask for; an **upstream** is one callable place: a configured provider
plus the name of the model there. Fallback models are followed in order, each once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metering.steps import Steps
from routing.abilities import ANY, Abilities
from routing.retries import ON_FAILURE, OnFailure


@dataclass(frozen=True, slots=True)
class Upstream:
    """One callable place. `public_name` is the model of ours that it serves here."""

    provider: str
    model: str
    public_name: str
    region: str | None = None
    """Where it computes, as far as that is known; prices may depend on it."""

    label: str = field(init=False, repr=False, compare=False)
    """`provider/model`: how logs, hold records and reasons name it. Asked for a dozen times per
    request, so it is put together once."""

    def __post_init__(self) -> None:
        """Frozen, so the only place where it can be set."""
        object.__setattr__(self, "label", f"{self.provider}/{self.model}")


@dataclass(frozen=True, slots=True)
class Model:
    """A public model: its upstreams in order of preference, then the models to fall back to.

    `steps` are those of requests for this model, and go before a tenant's.
    """

    name: str
    upstreams: tuple[Upstream, ...]
    fallbacks: tuple[str, ...] = ()
    abilities: Abilities = ANY
    steps: Steps | None = None
    drains: bool | None = None
    """Whether answers are read to their end when the client leaves; None: as the server does."""
    target_latency_ms: int | None = None
    """How fast its answers are to be, unless a request says otherwise."""
    on_failure: OnFailure = ON_FAILURE


Models = Mapping[str, Model]


def chain(models: Models, name: str) -> list[Model]:
    """The model and every model reachable by fallbacks, breadth first, each once."""
    found: dict[str, Model] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop(0)
        if current in found or current not in models:
            continue
        found[current] = models[current]
        waiting.extend(models[current].fallbacks)
    return list(found.values())


def candidates(models: Models, name: str) -> list[Upstream]:
    """Every upstream that may serve `name`: its own first, then those of its fallbacks."""
    return [upstream for model in chain(models, name) for upstream in model.upstreams]


def fallback_cycle(models: Models) -> list[str] | None:
    """A cycle in the fallbacks as the list of names that closes on itself, or None."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done or name not in models:
            return None
        for following in models[name].fallbacks:
            cycle = walk(following, [*path, name])
            if cycle:
                return cycle
        done.add(name)
        return None

    for start in models:
        cycle = walk(start, [])
        if cycle:
            return cycle
    return None
