"""From steps near a cap to the stages of a request: which models serve there, with which changes.

Rules:
- Steps add up. At a stage all steps up to it hold: of `to` the cheapest that can serve, of
  `instruct` the last, of `max_tokens` the smallest.
- Nothing goes to a model that lacks what the request uses, nor to one that is not cheaper for this
  request than the model asked for. It is passed over with the reason, and the stage takes the
  model before it.
- A change that changes nothing for this request is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from metering.steps import Step


@dataclass(frozen=True, slots=True)
class Changes:
    """What a stage changes in a request beside its model; `Changes()` changes nothing."""

    max_tokens: int | None = None
    """The bound of each choice that goes out, where it is below what was asked for."""
    instruct: str | None = None
    """A system message that is added."""

    def parts(self) -> list[str]:
        """Each change in a word; never the text of the message."""
        found = [] if self.max_tokens is None else [f"max_tokens={self.max_tokens}"]
        return found if self.instruct is None else [*found, "instruct"]


NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class Rung:
    """What the steps up to a stage say: `targets` with the last written first."""

    targets: tuple[str, ...] = ()
    changes: Changes = NO_CHANGES
    is_closed: bool = False
    """Nothing is sent: only what is cached answers."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A model that a stage would have gone to, and why it did not: `lacks=tools`, `dearer`."""

    model: str
    reason: str


DEARER = "dearer"
"""The reason against a model that is no cheaper than what is used instead."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Ladder(Generic[Made]):
    """A request at every stage, 0 first; `closed` is the first stage at which nothing is sent."""

    stages: tuple[tuple[Made, ...], ...]
    skips: tuple[tuple[Skip, ...], ...]
    closed: int | None = None


def rungs(steps: Sequence[Step]) -> tuple[Rung, ...]:
    """What holds at each stage, 0 (no step) first."""
    found = [Rung()]
    for step in steps:
        before = found[-1]
        bounds = [each for each in (before.changes.max_tokens, step.max_tokens) if each is not None]
        earlier = tuple(name for name in before.targets if name != step.to)
        found.append(
            Rung(
                targets=earlier if step.to is None else (step.to, *earlier),
                changes=Changes(
                    max_tokens=min(bounds, default=None),
                    instruct=step.instruct or before.changes.instruct,
                ),
                is_closed=before.is_closed or step.cache_only,
            )
        )
    return tuple(found)


def effective(changes: Changes, output_limit: int | None) -> Changes:
    """These changes without a bound that the client keeps by itself."""
    bound = changes.max_tokens
    if bound is not None and output_limit is not None and output_limit <= bound:
        return Changes(instruct=changes.instruct)
    return changes


def climb(
    ladder: Sequence[Rung],
    *,
    judge: Callable[[str, Changes], int | str],
    make: Callable[[str | None, Changes], tuple[Made, ...]],
) -> Ladder[Made]:
    """The request at every stage.

    `judge` gives what a model comes to for this request without the changes, or the reason why it
    cannot serve with them; `make` makes the stage on a model, None for the one asked for.
    """
    stages: list[tuple[Made, ...]] = []
    skips: list[tuple[Skip, ...]] = []
    for number, rung in enumerate(ladder):
        if rung.is_closed:
            return Ladder(tuple(stages), tuple(skips), closed=number)
        chosen: str | None = None
        lowest: int | None = None
        reasons: list[str] = []
        for name in rung.targets:
            answer = judge(name, rung.changes)
            reasons.append(answer if isinstance(answer, str) else DEARER)
            if not isinstance(answer, str) and (lowest is None or answer < lowest):
                chosen, lowest = name, answer
        later = rung.targets if chosen is None else rung.targets[: rung.targets.index(chosen)]
        stages.append(make(chosen, rung.changes))
        skips.append(tuple([Skip(name, reasons[i]) for i, name in enumerate(later)]))
    return Ladder(tuple(stages), tuple(skips))


def cycle_of(targets: Mapping[str, Sequence[str]]) -> list[str] | None:
    """A circle in which models step down to one another, as names that close on themselves."""
    for start in targets:
        path, walked = [start], {start}
        stack = [iter(targets.get(start, ()))]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                path.pop()
            elif following == start:
                return [*path, start]
            elif following not in walked:
                walked.add(following)
                path.append(following)
                stack.append(iter(targets.get(following, ())))
    return None
