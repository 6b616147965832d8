"""How much may be sent to an upstream beside the requests that come for it: a budget for each.

Pure: `now_s` is an argument. A retry, and a fallback to an upstream that is known to fail, costs
one token. Every request that goes there first puts in SHARE of one, RATE_PER_S come in by
themselves, and what lies there unused decays within RECENT_S: what counts is how much was asked of
it of late. So an upstream that fails gets at most a tenth more than its requests, and one a second,
however many of them are retried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SHARE = 0.1
RATE_PER_S = 1.0
RECENT_S = 10.0
IDLE = RATE_PER_S * RECENT_S
"""What lies in a budget that nobody uses, and in a new one."""

_SETTLE_S = 0.1
"""Decay is worked out this often at most: most requests add their share and no more."""


@dataclass(slots=True)
class _Budget:
    tokens: float
    at_s: float


class RetryBudgets:
    """The budgets of one process, by the upstream's label; made as they are needed.

    Labels come from the configuration, so there are no more than it has upstreams.
    """

    def __init__(self) -> None:
        self._budgets: dict[str, _Budget] = {}

    def note(self, label: str, now_s: float) -> None:
        """A request goes there first."""
        budget = self._budgets.get(label)
        if budget is None or now_s - budget.at_s >= _SETTLE_S:
            budget = self._settled(label, now_s)
        budget.tokens += SHARE

    def take(self, label: str, now_s: float) -> bool:
        """Whether one more may be sent there; it is paid for then."""
        budget = self._settled(label, now_s)
        if budget.tokens < 1.0:
            return False
        budget.tokens -= 1.0
        return True

    def _settled(self, label: str, now_s: float) -> _Budget:
        budget = self._budgets.get(label)
        if budget is None:
            budget = self._budgets[label] = _Budget(IDLE, now_s)
        elif now_s > budget.at_s:
            # it strives for what an unused one has, from above and from below
            left = math.exp((budget.at_s - now_s) / RECENT_S)
            budget.tokens = IDLE + (budget.tokens - IDLE) * left
            budget.at_s = now_s
        return budget
