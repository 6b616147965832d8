"""Degradation steps as they are written: from which share of a cap on, what becomes cheaper.

Steps add up: at a share, all steps up to it hold. What is chosen from them for one request is
routing's business (`routing.degrade`); which stage is in force, the caps' (`metering.caps.Stairs`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from metering.caps import Stage, Stairs

HYSTERESIS_PPM = 50_000
"""A window that slides gives room back in crumbs: 5 % keep a stage from flapping at its edge."""

DWELL_MS = 60_000
"""Long enough for an application to see one model per minute and not per request."""


@dataclass(frozen=True, slots=True)
class Step:
    """What changes from `at_ppm` of a cap on.

    `to` is the cheaper model that serves, `max_tokens` bounds the output of each choice, `instruct`
    is a system message that is added, `cache_only` lets nothing go to an upstream any more.
    """

    at_ppm: int
    to: str | None = None
    max_tokens: int | None = None
    cache_only: bool = False
    instruct: str | None = None


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of one writer, rising; a stage is left when every cap is `hysteresis_ppm` under its
    entry, and not before `dwell_ms`."""

    steps: tuple[Step, ...]
    hysteresis_ppm: int = HYSTERESIS_PPM
    dwell_ms: int = DWELL_MS

    def stairs(self, writer: str, *, is_shadow: bool = False) -> Stairs:
        """The stages of these steps. Every `writer` (`tenant`, `project/x`) and every text of its
        steps has a memory of its own: no stage is taken over into steps that were changed since."""
        digest = hashlib.sha256(repr((writer, self)).encode()).hexdigest()[:12]
        return Stairs(
            name=f"{writer.partition('/')[0]}.{digest}",
            stages=tuple(
                Stage(each.at_ppm, max(1, each.at_ppm - self.hysteresis_ppm)) for each in self.steps
            ),
            dwell_ms=self.dwell_ms,
            is_shadow=is_shadow,
        )


def burst(at_ppm: int, model: str) -> Steps:
    """`burst_threshold` and `fallback_model`: one step that is left where it was entered."""
    return Steps((Step(at_ppm, to=model),), hysteresis_ppm=0, dwell_ms=0)
