"""Alerts as signed POST requests to an address of the operator's.

Rules: whoever shares the secret can tell that a request is ours, whole and recent: the signature is
an HMAC-SHA256 over its time and its body. An alert has one id however often it is sent, so that it
can be acted on once. Redirects are not followed, answers are not read, and neither the address,
the secret nor the body is ever logged. The address may be a private one: an operator wrote it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

import aiohttp
import orjson

from metering.alert_sinks import SinkSettings
from metering.clock import now_ns
from metering.settlement.ledger.outbox import Alert
from metering.settlement.sending import SinkError
from metering.settlement.watch import Log

SIGNATURE = "x-weir-signature"
ALERT_ID = "x-weir-alert-id"


class WebhookSink:
    """Sends each alert on a connection of its own: they are rare, and receivers come and go."""

    def __init__(self, settings: SinkSettings) -> None:
        self._settings = settings

    async def deliver(self, alert: Alert) -> None:
        """One request; anything but a 2xx in time is a SinkError."""
        settings, body = self._settings, encode(alert)
        headers = {
            "content-type": "application/json",
            "user-agent": "tokenweir",
            ALERT_ID: alert_id(alert),
            SIGNATURE: sign(body, settings.secret, at_s=now_ns() // 1_000_000_000),
        }
        await post(settings.url, body, headers, timeout_s=settings.timeout_s)


async def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> None:
    """One request by the rules of this module; anything but a 2xx in time is a SinkError."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise SinkError(f"not reached: {type(error).__name__}") from None
    if not 200 <= status < 300:
        raise SinkError(f"answered {status}")


def open_sink(settings: SinkSettings, log: Log) -> WebhookSink:
    """This sink, as configured."""
    del log
    return WebhookSink(settings)


def encode(alert: Alert) -> bytes:
    """The body: version, id, kind, key, when it was found (Unix ms), and what the kind says."""
    about = {name: value for name, value in alert.body.items() if name != "kind"}
    return orjson.dumps(
        {
            "v": 1,
            "id": alert_id(alert),
            "kind": alert.kind,
            "key": alert.key,
            "at_ms": alert.created_ns // 1_000_000,
            "body": about,
        }
    )


def alert_id(alert: Alert) -> str:
    """The same each time it is sent, and for any other alert another one."""
    return hashlib.sha256(f"{alert.created_ns}:{alert.key}".encode()).hexdigest()[:32]


def sign(body: bytes, secret: str, *, at_s: int) -> str:
    """The signature header: `t=<unix s>,v1=<hex HMAC-SHA256 of "t.body">`."""
    signed = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={signed.hexdigest()}"
