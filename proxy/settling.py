"""The settlement worker as a process, started by the supervisor or by `weir worker`."""

from __future__ import annotations

import asyncio
import gc
import sys

from metering.background import spawn
from proxy import data_dir as data_dirs
from proxy import telemetry
from proxy.metrics import Metrics
from proxy.metrics_board import Board
from proxy.metrics_report import Reporter, resume
from proxy.metrics_worker import WorkerWatch
from proxy.settings import Settings, redis_keys
from proxy.stop_signals import GC_THRESHOLD, stop_on_signals


def run_worker(settings: Settings, board: Board | None = None, *, drain: bool = False) -> int:
    """The settlement worker, until SIGTERM or, draining, until nothing is left.

    It reports on `board` when there is one.
    """
    telemetry.configure()
    try:
        data_dirs.own(settings.data_dir)
        with data_dirs.worker_name(settings.data_dir) as consumer:
            return asyncio.run(_settle(settings, board, drain=drain, consumer=consumer))
    except data_dirs.DataDirError as failure:
        sys.stderr.write(f"weir: {failure}\n")
        return 1


async def _settle(settings: Settings, board: Board | None, *, drain: bool, consumer: str) -> int:
    from metering.settlement import worker  # noqa: PLC0415 - only the worker loads the ledger
    from metering.settlement.counting import Rules  # noqa: PLC0415
    from metering.settlement.crossings import Marks  # noqa: PLC0415

    assert settings.redis.url is not None, "the supervisor fills in the embedded server's URL"
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    stop, hurry = stop_on_signals()
    log = telemetry.logger("settlement")
    log.info("settling", consumer=consumer, drain=drain)
    metrics = Metrics()
    watch = WorkerWatch(metrics)
    reporter = Reporter(board, metrics, watch.look, log) if board is not None else None
    if reporter is not None:
        resume(reporter.board, metrics)
        spawn(reporter.run(), name="report")
    try:
        await worker.run(
            settings.redis.url.reveal(),
            redis_keys(settings),
            settings.ledger_url,
            stop=stop,
            hurry=hurry,
            drain=drain,
            consumer=consumer,
            tolerances=settings.tolerances,
            marks=Marks(backlog_high=settings.metering.backlog_high_water),
            rules=Rules.of(settings.tenants.values()),
            sinks=settings.sinks,
            log=log,
            watch=watch,
        )
    except worker.DrainGaveUpError as failure:
        sys.stderr.write(f"weir: {failure}\n")
        return 1
    finally:
        if reporter is not None:
            reporter.write()
    return 0
