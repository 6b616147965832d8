"""Spans and histograms on their way to a collector, beside everything else.

Rules: nothing here waits for a request and no request waits for it; what is queued is bounded, and
what finds no room is dropped and counted; a collector that is away costs one line in the log, and
one more when it is back. Its answers are data: only their status and a number are read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Any

import aiohttp

from metering.clock import now_ns
from proxy import metrics_catalogue as catalogue
from proxy.metrics import Metrics
from proxy.otlp import Told, metrics_body, rejected_in, told_by, trace_body
from proxy.settings import Telemetry
from proxy.spans import Histograms, Span

QUEUE_MAX = 4096
"""Spans, about 8 MB: eight seconds of a busy process."""
BATCH_MAX = 128
"""Writing so many down takes 2 ms, in which no stream moves."""
SEND_EVERY_S = 1.0
METRICS_EVERY_S = 15.0
TIMEOUT_S = 10.0
CLOSING_S = 2.0
"""How long the end of a process waits for its last spans."""
BACKOFF_MAX_S = 30.0
_ANSWER_MAX = 64 * 1024


class OtlpSender:
    """Sends what it is given to `settings.otlp`; `run` until cancelled, then `close`."""

    def __init__(
        self,
        settings: Telemetry,
        metrics: Metrics,
        *,
        resource: Mapping[str, str],
        version: str,
        log: Any,
        send_every_s: float = SEND_EVERY_S,
        metrics_every_s: float = METRICS_EVERY_S,
    ) -> None:
        self._settings, self._metrics, self._log = settings, metrics, log
        self._resource = {**resource, **settings.resource}
        self._version = version
        self._send_every_s, self._metrics_every_s = send_every_s, metrics_every_s
        self._queue: deque[Span] = deque()
        self._since_ns = now_ns()
        self._told_at_ns = self._since_ns
        self._is_away = False
        self._is_refused: set[str] = set()
        self.histograms = Histograms()
        for result in ("sent", "dropped", "refused"):  # the first is a rise from 0
            metrics.add(catalogue.TELEMETRY_SPANS, result, by=0)

    def put(self, span: Span) -> None:
        """Queue a span; dropped where there is no room. Never waits, never fails."""
        if len(self._queue) >= QUEUE_MAX:
            self._metrics.add(catalogue.TELEMETRY_SPANS, "dropped")
            return
        self._queue.append(span)

    async def run(self) -> None:
        """Send what is queued, again and again."""
        wait_s = self._send_every_s
        async with self._session() as session:
            while True:
                await asyncio.sleep(wait_s)
                is_well = await self._turn(session)
                backed_off_s = min(2 * wait_s, BACKOFF_MAX_S)
                wait_s = self._send_every_s if is_well else backed_off_s

    async def close(self) -> None:
        """Send what is left, for a moment; what remains then is dropped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S), self._session() as session:
                await self._spans(session)
                await self._histograms(session)
        if self._queue:
            self._metrics.add(catalogue.TELEMETRY_SPANS, "dropped", by=len(self._queue))
            self._queue.clear()

    async def _turn(self, session: aiohttp.ClientSession) -> bool:
        """Whether all was sent that was there."""
        is_well = await self._spans(session)
        if is_well and now_ns() - self._told_at_ns >= self._metrics_every_s * 1e9:
            is_well = await self._histograms(session)
        return is_well

    async def _spans(self, session: aiohttp.ClientSession) -> bool:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            told, rejected = Told.LATER, 0
            try:
                body = trace_body(self._resource, self._version, batch)
                told, rejected = await self._post(session, "traces", body)
            finally:
                if told is Told.LATER:  # also when the process ends meanwhile
                    self._queue.extendleft(reversed(batch))
            if told is Told.LATER:
                return False
            refused = len(batch) if told is Told.REFUSED else min(rejected, len(batch))
            self._metrics.add(catalogue.TELEMETRY_SPANS, "sent", by=len(batch) - refused)
            self._metrics.add(catalogue.TELEMETRY_SPANS, "refused", by=refused)
        return True

    async def _histograms(self, session: aiohttp.ClientSession) -> bool:
        self._told_at_ns = now_ns()
        if not self.histograms.points:
            return True
        body = metrics_body(
            self._resource,
            self._version,
            self.histograms,
            since_ns=self._since_ns,
            now_ns=self._told_at_ns,
        )
        told, _ = await self._post(session, "metrics", body)
        return told is not Told.LATER  # all of it is told again next time

    async def _post(
        self, session: aiohttp.ClientSession, signal: str, body: bytes
    ) -> tuple[Told, int]:
        url = f"{self._settings.otlp}/v1/{signal}"
        try:
            async with session.post(url, data=body, allow_redirects=False) as answer:
                said = await answer.content.read(_ANSWER_MAX)
                told = told_by(answer.status)
                self._say(told, signal, f"status {answer.status}")
                return told, rejected_in(said) if told is Told.TAKEN else 0
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._say(Told.LATER, signal, type(error).__name__)
            return Told.LATER, 0

    def broke(self, error: BaseException) -> None:
        """`run` has failed, by a fault of ours: nothing is sent any more, and requests go on."""
        self._log.error("telemetry_failed", cause=repr(error))

    def _say(self, told: Told, signal: str, cause: str) -> None:
        """Changes are told, not each of many failures. The URL may hold a credential."""
        if told is Told.LATER:
            if not self._is_away:
                self._log.warning("telemetry_waits", signal=signal, cause=cause)
            self._is_away = True
            return
        if self._is_away:
            self._log.info("telemetry_goes_on", signal=signal)
        self._is_away = False
        if told is Told.REFUSED and signal not in self._is_refused:
            self._is_refused.add(signal)
            self._log.error("telemetry_refused", signal=signal, cause=cause)
        elif told is Told.TAKEN:
            self._is_refused.discard(signal)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={
                "User-Agent": "tokenweir",
                "Content-Type": "application/json",
                **{name: each.reveal() for name, each in self._settings.headers.items()},
            },
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
