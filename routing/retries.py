"""How often the same upstream is asked again, and how long that waits. Pure: jitter is an argument.

An upstream that named a time is asked once it has passed, and a little later, so that those whom it
sent away together do not come back together. One that named none is asked after a backoff with full
jitter: anything between nothing and a bound that doubles.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKOFF_DOUBLINGS_MAX = 10


@dataclass(frozen=True, slots=True)
class Retries:
    """`models.NAME.retries`: how often, how long at most, and the first bound of the backoff."""

    max: int = 1
    max_wait_s: float = 2.0
    backoff_s: float = 0.25

    def wait_s(self, after_s: float | None, done: int, jitter: float) -> float | None:
        """How long to wait before the next attempt at the same place; None where it is not asked
        again. `done` are the retries made there, `after_s` what it asked for, `jitter` is within
        0 and 1."""
        if done >= self.max:
            return None
        bound_s = self.backoff_s * 2.0 ** min(done, BACKOFF_DOUBLINGS_MAX)
        if after_s:
            wait_s = after_s + jitter * min(bound_s, after_s / 10)
            return wait_s if after_s <= self.max_wait_s else None
        return min(jitter * bound_s, self.max_wait_s)


NO_RETRIES = Retries(max=0)


@dataclass(frozen=True, slots=True)
class OnFailure:
    """What `models.NAME` says of failures of its upstreams."""

    retries: Retries = NO_RETRIES
    deadline_s: float | None = None
    """How long the whole exchange may take; None: as the server says."""
    context_fallbacks: tuple[str, ...] = ()
    """Models to go to with a prompt that is too long for this one."""
    content_policy_fallbacks: tuple[str, ...] = ()
    """Models to go to with what is against the policy of this one's upstream."""
    continue_on_cut: bool = False
    """Whether another upstream goes on with a stream that broke off."""


ON_FAILURE = OnFailure()
"""That of a model that says nothing: nothing is asked twice at one place. The configuration gives
every model one retry."""
