"""`weir ledger archive` and `weir ledger erase-user`: what leaves the ledger, and how."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli_options import (
    BAD_CONFIG,
    FAILED,
    NOT_FOUND,
    count_of,
    echo_json,
    fail,
    load_config,
    shared_options,
    user_name,
)
from proxy.cli_progress import progress

if TYPE_CHECKING:
    from metering.settlement.ledger.erasing import Erased
    from metering.settlement.ledger.store import Ledger


@click.command("archive")
@shared_options
def archive(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Move the payloads of old events into files, as `retention` says. Rows and sums stay."""
    settings = load_config(config_file, data_dir, as_json).settings
    kept = settings.retention
    if kept is None:
        fail(NOT_FOUND, f"no section retention in {settings.source}", as_json)
    from metering.clock import now_ns
    from metering.settlement.ledger.archive import DAY_NS, Archived, knows_archive
    from metering.settlement.ledger.archive import archive as move
    from metering.settlement.ledger.archive_files import ArchiveError
    from proxy.cli_asked import asked

    def ask(books: Ledger) -> tuple[Archived, str]:
        at_ns = now_ns()
        before_ns = at_ns - kept.events_days * DAY_NS
        try:
            folder = Path(kept.folder)
            return move(books, folder, before_ns=before_ns, now_ns=at_ns, tell=tell), ""
        except ArchiveError as error:
            return Archived(), str(error)

    with progress("Archiving events", as_json=as_json) as tell:
        found, trouble = asked(settings, knows_archive, ask, as_json=as_json)
    if trouble:
        fail(FAILED, trouble, as_json)
    if as_json:
        echo_json(asdict(found))
        return
    click.echo(f"moved: {count_of(found.events, 'event')} into {count_of(found.files, 'file')}")


@click.command("erase-user")
@click.argument("user")
@click.option("--tenant", required=True, help="Whose user it is.")
@click.option("--reason", required=True, help="Why, kept with the erasure; not the user's id.")
@click.option("--by", help="Who decides; the user who is logged in if left out.")
@shared_options
def erase_user(
    user: str,
    *,
    tenant: str,
    reason: str,
    by: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Erase USER from every event, archives included. It cannot be undone.

    What was charged stays. Exit code 1 when something is left; the rest is done.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    who = by or user_name(as_json)
    if not user or user in reason or user == who:
        fail(BAD_CONFIG, "the id of the user must not be empty, nor in --reason or --by", as_json)
    kept = settings.retention
    from metering.clock import now_ns
    from metering.settlement.ledger.archive import knows_archive
    from metering.settlement.ledger.archive_files import ArchiveError
    from metering.settlement.ledger.erasing import Erased
    from metering.settlement.ledger.erasing import erase_user as erase
    from proxy.cli_asked import asked

    def ask(books: Ledger) -> tuple[Erased, str]:
        folder = None if kept is None else Path(kept.folder)
        try:
            done = erase(books, tenant, user, folder=folder, by=who, reason=reason, now_ns=now_ns())
            return done, ""
        except ArchiveError as error:
            return Erased(), str(error)

    found, trouble = asked(settings, knows_archive, ask, as_json=as_json)
    if trouble:
        fail(FAILED, f"not all is erased: {trouble}", as_json)
    if as_json:
        echo_json(asdict(found))
    else:
        click.echo(_said(found))
    if found.unreadable:
        ids = ", ".join(str(each) for each in found.unreadable)
        fail(FAILED, f"dead letters that are no JSON hold the id: {ids}; see them", as_json)


def _said(found: Erased) -> str:
    parts: list[Any] = [f"erased from {count_of(found.events, 'event')}"]
    for number, noun in (
        (found.files, "file"),
        (found.conflicts, "second body"),
        (found.dead_letters, "dead letter"),
    ):
        if number:
            parts.append(count_of(number, noun).replace("bodys", "bodies"))
    return ", ".join(parts)
