"""Who the worker talks to while it works: a log, and a watch that counts. It knows neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from metering.settlement.batches import BatchReport


class Log(Protocol):
    """What the worker needs of a logger: structlog's shape."""

    def info(self, event: str, **values: Any) -> Any:
        """Say that something happened."""

    def warning(self, event: str, **values: Any) -> Any:
        """Say that something should be looked at."""


class Watch(Protocol):
    """Wants to know how it goes. Called on the worker's own loop, so it must not wait."""

    def batch(self, report: BatchReport, took_s: float) -> None:
        """A batch is in the ledger and acknowledged."""

    def turned(self) -> None:
        """A turn went well, with a batch or without."""

    def failed(self, error: Exception) -> None:
        """A turn was given up over Redis or the database, and will be tried again."""

    def recovered(self, exchanges: int) -> None:
        """The usage of so many exchanges was recorded whose process had died."""

    def repaired(self, buckets: int) -> None:
        """So many buckets in Redis were not what the ledger says, and are now."""

    def alerted(self, kind: str) -> None:
        """An alert of this kind has gone out."""

    def reviewed(self, step: str, mode: str) -> None:
        """A step was taken over unusual spend; in mode `shadow` it would have been."""

    def synced(self, outcomes: Mapping[str, int], *, waiting: int, held: int) -> None:
        """A turn with Stripe: what became of requests, and how many hours wait or are held."""

    def paid(self, steps: Mapping[str, int]) -> None:
        """So many steps of payments were booked, by name."""

    def delivered(self, endpoint: str, outcome: str) -> None:
        """A webhook's message was `taken`, `not_taken`, or is `dead`."""

    def credited(self, left_nano: int) -> None:
        """What is left of all tenants' credit now."""

    def ran(self, job: str, outcome: str) -> None:
        """A run of a job is over: done, failed, retried, waiting, or lost to another worker."""


class Unwatched:
    """A `Watch` for when nobody wants to know."""

    def batch(self, report: BatchReport, took_s: float) -> None:
        """See `Watch`."""

    def turned(self) -> None:
        """See `Watch`."""

    def failed(self, error: Exception) -> None:
        """See `Watch`."""

    def recovered(self, exchanges: int) -> None:
        """See `Watch`."""

    def repaired(self, buckets: int) -> None:
        """See `Watch`."""

    def alerted(self, kind: str) -> None:
        """See `Watch`."""

    def reviewed(self, step: str, mode: str) -> None:
        """See `Watch`."""

    def synced(self, outcomes: Mapping[str, int], *, waiting: int, held: int) -> None:
        """See `Watch`."""

    def paid(self, steps: Mapping[str, int]) -> None:
        """See `Watch`."""

    def delivered(self, endpoint: str, outcome: str) -> None:
        """See `Watch`."""

    def credited(self, left_nano: int) -> None:
        """See `Watch`."""

    def ran(self, job: str, outcome: str) -> None:
        """See `Watch`."""
