"""The sink that is always there: each alert as one line of the worker's log.

The line's event is `alert`, its fields are the kind and the body. Bodies hold ids and numbers only:
no prompt, no secret.
"""

from __future__ import annotations

from metering.alert_sinks import SinkSettings
from metering.settlement.ledger.outbox import Alert
from metering.settlement.watch import Log


class LogSink:
    """Writes alerts to a log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def deliver(self, alert: Alert) -> None:
        """One line."""
        body = {name: value for name, value in alert.body.items() if name != "kind"}
        self._log.warning("alert", kind=alert.kind, key=alert.key, body=body)


def open_sink(settings: SinkSettings, log: Log) -> LogSink:
    """This sink; it has nothing to be set."""
    del settings
    return LogSink(log)
