"""What the settlement worker does by the clock, as configured.

Plain values that the request path may carry about; who acts on them is the settlement worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from metering.cron import Cron

RECONCILE_DAYS = 1
MAX_WAIT_HOURS = 24


class JobKind(StrEnum):
    """What can be done by the clock."""

    CLOSE = "close"
    """Close the month that is over and issue its invoices, of everybody with usage or a plan."""
    RECONCILE = "reconcile"
    """Compare the ledger with what providers say of the days before."""
    VERIFY = "verify"
    """`weir ledger verify`."""
    ARCHIVE = "archive"
    """Move the payloads of old events into files."""
    PRICE_REVIEW = "price_review"
    """`weir prices review`, told to somebody."""


class CatchUp(StrEnum):
    """What becomes of the times at which no worker was there."""

    ONCE = "once"
    """One run for all of them, for the newest."""
    ALL = "all"
    """A run for each of the newest hundred."""
    NONE = "none"
    """No run for what is more than five minutes late."""


@dataclass(frozen=True, slots=True)
class JobSettings:
    """One job. Which options count depends on its kind."""

    name: str
    kind: JobKind
    cron: Cron
    catch_up: CatchUp = CatchUp.ONCE
    days: int = RECONCILE_DAYS
    """Of `reconcile`: how many days, the last one yesterday's."""
    max_wait_hours: int = MAX_WAIT_HOURS
    """Of `close`: how long it is put off while something may be missing."""


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long the ledger keeps what events came as, and where it goes then."""

    events_days: int
    folder: str
