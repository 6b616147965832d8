"""`weir webhooks`: what other systems were told, trying an endpoint out, and sending again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proxy.cli_options import (
    FAILED,
    NOT_FOUND,
    count_of,
    echo_json,
    fail,
    load_config,
    shared_options,
)

if TYPE_CHECKING:
    from metering.settlement.ledger.store import Ledger
    from metering.webhook_settings import WebhookEndpoint
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")
_LISTED = 100


@click.group()
def webhooks() -> None:
    """Other systems that are told of usage, closed months and alerts."""


@webhooks.command("list")
@shared_options
def list_(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Each endpoint with how many messages were sent, wait and are dead."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger import webhook_book as book

    def ask(ledger: Ledger) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        with ledger.read() as connection:
            return book.standing(connection), book.unsent(connection, _LISTED)

    counted, unsent = _asked(settings, ask, as_json=as_json)
    by_name = {row["endpoint"]: row for row in counted}
    configured = {each.name: each for each in settings.webhooks}
    body = {
        "endpoints": [
            _endpoint(name, configured.get(name), by_name.get(name, {}))
            for name in sorted({*by_name, *configured})
        ],
        "unsent": [
            {**{k: v for k, v in row.items() if k != "created_at"}}
            | {"created_ms": row["created_at"] // 1_000_000}
            for row in unsent
        ],
    }
    if as_json:
        echo_json(body)
        return
    from proxy.cli_tables import console
    from proxy.cli_webhooks_tables import listing

    console().print(listing(body))


@webhooks.command("send-test")
@click.argument("name")
@shared_options
def send_test(*, name: str, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Send the endpoint NAME a message of type `webhook.test`. Exit code 1 when it is not taken."""
    settings = load_config(config_file, data_dir, as_json).settings
    endpoint = next((each for each in settings.webhooks if each.name == name), None)
    if endpoint is None:
        fail(NOT_FOUND, f"no webhook {name!r} in {settings.source}", as_json)
    import asyncio
    import secrets

    from metering.clock import now_ns
    from metering.settlement.sending import SinkError
    from metering.settlement.webhooks import Message
    from metering.settlement.webhooks_loop import deliver

    at, message_id = now_ns(), f"msg_test_{secrets.token_hex(12)}"
    data = '{"text":"a test of this endpoint"}'
    message = Message(0, message_id, "webhook.test", "", data, 0, at, at)
    try:
        asyncio.run(deliver(endpoint, message, source="urn:tokenweir:test"))
    except SinkError as error:
        fail(FAILED, f"{name} did not take it: {error}", as_json)
    if as_json:
        echo_json({"endpoint": name, "message_id": message_id, "taken": True})
        return
    click.echo(f"{name} took {message_id}")


@webhooks.command("retry")
@click.argument("message_id", required=False)
@click.option("--endpoint", help="Only messages to this endpoint.")
@shared_options
def retry(
    *,
    message_id: str | None,
    endpoint: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Send a message again, or all that wait or are dead; the worker does, within seconds."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from metering.settlement.ledger import webhook_book as book

    count = _asked(
        settings,
        lambda ledger: book.retry(ledger, endpoint, message_id, now_ns()),
        as_json=as_json,
    )
    if message_id is not None and not count:
        fail(NOT_FOUND, f"no message {message_id}", as_json)
    if as_json:
        echo_json({"retried": count})
        return
    click.echo(f"{count_of(count, 'message')} to be sent again")


def _endpoint(
    name: str, configured: WebhookEndpoint | None, counted: dict[str, Any]
) -> dict[str, Any]:
    sent_at = counted.get("sent_at")
    return {
        "name": name,
        "configured": configured is not None,
        "format": None if configured is None else configured.format.value,
        "events": [] if configured is None else sorted(configured.events),
        "sent": counted.get("sent", 0),
        "waiting": counted.get("new", 0),
        "dead": counted.get("dead", 0),
        "last_sent_ms": None if sent_at is None else sent_at // 1_000_000,
    }


def _asked(settings: Settings, ask: Callable[[Ledger], _Answer], *, as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process with the reason."""
    from metering.settlement.ledger.webhook_book import knows_webhooks
    from proxy.cli_asked import asked

    return asked(settings, knows_webhooks, ask, as_json=as_json)
