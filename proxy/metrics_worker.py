"""From what the settlement worker says of its batches to counters, and to how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metering.clock import monotonic_s
from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics

if TYPE_CHECKING:
    from metering.settlement.batches import BatchReport


class WorkerWatch:
    """A `Watch` of the worker that counts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._settled_at_s: float | None = None
        self._turned_at_s: float | None = None
        self._trouble: str | None = None
        # so that the first fault is a rise from 0 and not a series that begins at 1
        for metric in (
            *(catalogue.SETTLED, catalogue.REPEATS, catalogue.CONFLICTS),
            *(catalogue.DEAD_LETTERS, catalogue.DIFFERENCES, catalogue.SETTLEMENT_TROUBLE),
            *(catalogue.RECOVERED, catalogue.REPAIRED),
        ):
            metrics.add(metric, by=0)

    def batch(self, report: BatchReport, took_s: float) -> None:
        """A batch is in the ledger and acknowledged."""
        add = self._metrics.add
        self._settled_at_s = monotonic_s()
        add(catalogue.SETTLED, by=report.settled)
        add(catalogue.REPEATS, by=report.repeats)
        add(catalogue.CONFLICTS, by=report.conflicts)
        add(catalogue.DEAD_LETTERS, by=report.malformed)
        add(catalogue.DIFFERENCES, by=sum(each.events for each in report.differences))
        self._metrics.observe(catalogue.BATCH_SECONDS, value=took_s)

    def turned(self) -> None:
        """A turn went well: Redis and the ledger answer."""
        self._turned_at_s = monotonic_s()
        self._trouble = None

    def failed(self, error: Exception) -> None:
        """A turn was given up. Only the kind is kept: a message may hold an address or a value."""
        self._trouble = type(error).__name__
        self._metrics.add(catalogue.SETTLEMENT_TROUBLE)

    def recovered(self, exchanges: int) -> None:
        """The usage of so many exchanges was recorded whose process had died."""
        self._metrics.add(catalogue.RECOVERED, by=exchanges)

    def repaired(self, buckets: int) -> None:
        """So many buckets in Redis were not what the ledger says, and are now."""
        self._metrics.add(catalogue.REPAIRED, by=buckets)

    def alerted(self, kind: str) -> None:
        """An alert of this kind has gone out."""
        self._metrics.add(catalogue.ALERTS, kind)

    def reviewed(self, step: str, mode: str) -> None:
        """A step was taken over unusual spend, or would have been."""
        self._metrics.add(catalogue.REVIEW_STEPS, step, mode)

    def synced(self, outcomes: Mapping[str, int], *, waiting: int, held: int) -> None:
        """A turn with Stripe is over."""
        for outcome, requests in outcomes.items():
            self._metrics.add(catalogue.STRIPE_REQUESTS, outcome, by=requests)
        self._metrics.set(catalogue.STRIPE_WAITING, to=waiting)
        self._metrics.set(catalogue.STRIPE_HELD, to=held)

    def paid(self, steps: Mapping[str, int]) -> None:
        """Steps of payments were booked."""
        for step, count in steps.items():
            self._metrics.add(catalogue.PAYMENT_STEPS, step, by=count)

    def delivered(self, endpoint: str, outcome: str) -> None:
        """A webhook's message was sent, or could not be."""
        self._metrics.add(catalogue.WEBHOOK_MESSAGES, endpoint, outcome)

    def credited(self, left_nano: int) -> None:
        """What is left of all tenants' credit now."""
        self._metrics.set(catalogue.CREDIT_LEFT, to=left_nano)

    def ran(self, job: str, outcome: str) -> None:
        """A run of a job is over."""
        self._metrics.add(catalogue.JOB_RUNS, job, outcome)

    async def look(self) -> dict[str, Any]:
        """How the worker stands, for its report."""
        now_s = monotonic_s()
        return {
            "last_turn_age_s": _age_s(self._turned_at_s, now_s),
            "last_batch_age_s": _age_s(self._settled_at_s, now_s),
            "trouble": self._trouble,
        }


def _age_s(since_s: float | None, now_s: float) -> float | None:
    return None if since_s is None else round(now_s - since_s, 1)
