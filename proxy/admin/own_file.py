"""The configuration of a console that runs alone: read again when it is asked for, or has changed.

Rules:
- A look finds that the file has changed, that another configuration was announced in Redis, or
  that tenants have changed in the ledger. The first one only learns what was announced last.
- A file with faults changes nothing, and neither does a ledger or a Redis that is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from metering.clock import monotonic_s, now_ns
from metering.settlement.ledger.faults import LedgerDamagedError
from proxy.admin.opened import Console
from proxy.config_files import ConfigFiles
from proxy.config_reading import Read, look
from proxy.demo_keys import KeyFileError
from proxy.errors import ApiError
from proxy.reload_report import ReloadReport
from proxy.settings import Settings
from proxy.settings_changes import replaced
from proxy.settling_registry import Renewals

Complete = Callable[[Settings], Settings]
"""Puts the command line's words over what was read, and what only this machine knows."""


class OwnFile:
    """The configuration of a console alone."""

    def __init__(self, console: Console, read: Read, complete: Complete) -> None:
        self._console = console
        self._read = read
        self._complete = complete
        self._renewals = Renewals(console.settings)
        self._generation = 1
        assert console.settings.source is not None, "a command reads a file"
        self._files = ConfigFiles(console.settings.source, ())
        self._files.take(())
        self._announced: Any = ...
        self._complained: str | None = None
        self._one_at_a_time = asyncio.Lock()
        console.read_again = self.read_again

    async def read_again(self, why: str) -> ReloadReport:
        """Read the file, take it up where it has no faults, and say what came of it."""
        async with self._one_at_a_time:
            report = ReloadReport(why, now_ns())
            self._files.take(())
            report.sha256 = self._files.taken
            found = await asyncio.to_thread(look, self._read)
            report.faults = found.faults
            if found.settings is not None:
                try:
                    self._take_up(self._complete(found.settings), report)
                except (OSError, KeyFileError) as failure:
                    report.faults = [{"message": str(failure)}]
            report.generation, report.finished_ns = self._generation, now_ns()
            self._tell(report)
            return report

    def _take_up(self, fresh: Settings, report: ReloadReport) -> None:
        running = self._console.settings
        if fresh.admin is not None and fresh.admin.port == 0 and running.admin is not None:
            fresh = replace(fresh, admin=replace(fresh.admin, port=running.admin.port))
        made = replaced(running, fresh)
        self._console.settings = made.settings
        self._generation += bool(made.applied)
        report.ok = True
        report.applied, report.waiting = list(made.applied), list(made.waiting)
        report.processes = {"console": "applied"}

    def _tell(self, report: ReloadReport) -> None:
        log = self._console.log
        for each in report.faults:
            log.error("configuration_fault", **each)
        if not report.ok:
            log.error("configuration_refused", why=report.why, faults=len(report.faults))
            return
        log.info("configuration_reloaded", why=report.why, needs_a_restart=report.waiting)

    async def look(self) -> None:
        """One look at what others have changed."""
        watches = self._console.settings.server.watch_config
        if watches and self._files.has_changed(monotonic_s()):
            await self.read_again("the file has changed")
        if await self._is_announced():
            await self.read_again("announced in Redis")
        if await self._has_new_tenants():
            await self.read_again("tenants changed")

    async def _is_announced(self) -> bool:
        """Whether another configuration was announced since the last look."""
        try:
            told = await self._console.redis.get(self._console.keys.announced)
        except (RedisError, OSError):  # whoever asks for something of it is told
            return False
        before, self._announced = self._announced, told
        return before is not ... and told != before

    async def _has_new_tenants(self) -> bool:
        cause = None
        try:
            return await self._console.ask(self._renewals.take)
        except (ApiError, SQLAlchemyError, LedgerDamagedError, OSError) as error:
            cause = f"{type(error).__name__}: {error}"
            if cause != self._complained:
                self._console.log.warning("registry_not_read", cause=cause)
            return False
        finally:
            self._complained = cause
