"""The settlement worker as a process, started by the supervisor or by `weir worker`."""

from __future__ import annotations

import asyncio
import gc
import sys

from metering.background import spawn
from proxy import data_dir as data_dirs
from proxy import telemetry
from proxy.config_reading import Read
from proxy.metrics import Metrics
from proxy.metrics_board import Board
from proxy.metrics_report import Reporter, resume
from proxy.metrics_worker import WorkerWatch
from proxy.settings import Settings, redis_keys
from proxy.settings_line import ChildLine
from proxy.stop_signals import GC_THRESHOLD, stop_on_signals
from proxy.telemetry_open import traced_process


def run_worker(
    settings: Settings,
    board: Board | None = None,
    line: ChildLine | None = None,
    *,
    drain: bool = False,
    read: Read | None = None,
) -> int:
    """The settlement worker, until SIGTERM or, draining, until nothing is left.

    It reports on `board` and takes new settings from `line`, when there is one; alone it reads the
    file again at SIGHUP.
    """
    telemetry.configure()
    try:
        data_dirs.own(settings.data_dir)
        with data_dirs.worker_name(settings.data_dir) as consumer:
            work = _settle(settings, board, line, read, drain=drain, consumer=consumer)
            return asyncio.run(work)
    except data_dirs.DataDirError as failure:
        sys.stderr.write(f"weir: {failure}\n")
        return 1


async def _settle(
    settings: Settings,
    board: Board | None,
    line: ChildLine | None,
    read: Read | None,
    *,
    drain: bool,
    consumer: str,
) -> int:
    from metering.settlement import worker  # noqa: PLC0415 - only the worker loads the ledger
    from metering.settlement.terms import Offer  # noqa: PLC0415
    from proxy.settling_registry import keep_published  # noqa: PLC0415
    from proxy.settling_terms import follow, follow_hangups, terms_of  # noqa: PLC0415

    assert settings.redis.url is not None, "the supervisor fills in the embedded server's URL"
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    stop, hurry = stop_on_signals()
    log = telemetry.logger("settlement")
    log.info("settling", consumer=consumer, drain=drain)
    metrics = Metrics()
    async with traced_process(settings, metrics, process=consumer, log=log) as tracer:
        watch = WorkerWatch(metrics, tracer)
        reporter = Reporter(board, metrics, watch.look, log) if board is not None else None
        if reporter is not None:
            resume(reporter.board, metrics)
            spawn(reporter.run(), name="report")
        offer = Offer(terms_of(settings), log)
        if line is not None:
            spawn(follow(line, offer, metrics, log), name="settings")
        asked = asyncio.Event()
        if line is None and read is not None:
            spawn(follow_hangups(read, settings, offer, log, asked), name="settings")
        changed = asked.set if line is None and read is not None else None
        spawn(keep_published(settings, log, changed=changed), name="registry")
        try:
            await worker.run(
                settings.redis.url.reveal(),
                redis_keys(settings),
                settings.ledger_url,
                stop=stop,
                hurry=hurry,
                drain=drain,
                consumer=consumer,
                offer=offer,
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
