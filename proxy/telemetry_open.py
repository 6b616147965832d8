"""The tracer of a process and what sends its spans, where `telemetry` is set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from metering.background import spawn
from proxy.door import Door
from proxy.metrics import Metrics
from proxy.otlp_sender import OtlpSender
from proxy.settings import Settings, Telemetry
from proxy.traced_caps import TracedCaps
from proxy.tracing import Tracer


def with_tracing(door: Door) -> tuple[Door, contextlib.AbstractAsyncContextManager[object]]:
    """The door with a tracer where its settings want one, and the sending, still to be opened."""
    telemetry = door.settings.telemetry
    if telemetry is None:
        return door, contextlib.nullcontext()
    sender = sender_of(telemetry, door.metrics.metrics, process=door.proxy_id, log=door.log)
    tracer = tracer_of(telemetry, sender)
    return replace(door, caps=TracedCaps(door.caps, tracer), tracer=tracer), sending(sender)


def sender_of(telemetry: Telemetry, metrics: Metrics, *, process: str, log: Any) -> OtlpSender:
    """What sends the spans of a process of that name. Nothing is opened yet."""
    ours = "unknown"
    with contextlib.suppress(PackageNotFoundError):
        ours = version("tokenweir")
    resource = {
        "service.name": "tokenweir",
        "service.version": ours,
        "service.instance.id": process,
    }
    return OtlpSender(telemetry, metrics, resource=resource, version=ours, log=log)


def tracer_of(telemetry: Telemetry, sender: OtlpSender) -> Tracer:
    """What makes the spans that it sends."""
    return Tracer(sender.put, sender.histograms, sample_ppm=telemetry.sample_ppm)


@contextlib.asynccontextmanager
async def traced_process(
    settings: Settings, metrics: Metrics, *, process: str, log: Any
) -> AsyncIterator[Tracer | None]:
    """The tracer of a process that has no door, for as long as the block runs."""
    if settings.telemetry is None:
        yield None
        return
    sender = sender_of(settings.telemetry, metrics, process=process, log=log)
    async with sending(sender):
        yield tracer_of(settings.telemetry, sender)


@contextlib.asynccontextmanager
async def sending(sender: OtlpSender) -> AsyncIterator[None]:
    """Send beside whatever runs within, and what is left at its end."""
    task = spawn(sender.run(), name="telemetry", on_error=sender.broke)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await sender.close()
