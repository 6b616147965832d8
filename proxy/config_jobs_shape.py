"""The shapes of the sections `jobs` and `retention`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config_values import FORBID, Text
from proxy.config_values import text as _text
from proxy.config_values import whole as _whole


@dataclass(frozen=True, kw_only=True)
class JobShape:
    """Something that the worker does by the clock."""

    __pydantic_config__ = FORBID

    job: Annotated[
        Literal["close", "reconcile", "verify", "archive", "price_review"],
        BeforeValidator(_text),
    ]
    """What is done: see [jobs](jobs.md#what-there-is)."""
    schedule: Text
    """When: five cron fields, `"0 2 * * *"` for two in the morning."""
    name: Text | None = None
    """Its name, in runs and alerts; `job` if left out."""
    timezone: Text = "UTC"
    """Whose clock, as `Europe/Berlin`; see [daylight saving](jobs.md#daylight-saving)."""
    catch_up: Annotated[Literal["once", "all", "none"], BeforeValidator(_text)] = "once"
    """What becomes of times at which no worker was there: one run for all, one for each (of the
    newest hundred), or none."""
    days: Annotated[int, Field(ge=1, le=31), BeforeValidator(_whole)] | None = None
    """Of `reconcile`: how many days are compared, up to yesterday (UTC); 1 if left out."""
    max_wait_hours: Annotated[int, Field(ge=1, le=744), BeforeValidator(_whole)] | None = None
    """Of `close`: how long it is put off while something may be missing; 24 if left out."""


@dataclass(frozen=True, kw_only=True)
class ArchiveShape:
    """Where the ledger's old payloads go."""

    __pydantic_config__ = FORBID

    folder: Text
    """An existing folder; relative to the file's directory."""
    format: Annotated[Literal["jsonl.gz"], BeforeValidator(_text)] = "jsonl.gz"
    """One event a line, compressed; there is no other."""


@dataclass(frozen=True, kw_only=True)
class RetentionShape:
    """How long the ledger keeps events as they came."""

    __pydantic_config__ = FORBID

    events_days: Annotated[int, Field(ge=40, le=36_500), BeforeValidator(_whole)]
    """Age in days from which an event's payload may be moved; at least 40."""
    archive: ArchiveShape
    """Where to."""
