"""`weir dead`: events that could not be booked, looked at and sent into the ledger once more.

Nothing here deletes a dead letter: what became of it is noted beside it, with who and when.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from proxy.cli_options import (
    FAILED,
    NOT_FOUND,
    count_of,
    echo_json,
    fail,
    load_config,
    shared_options,
    user_name,
)

if TYPE_CHECKING:
    from metering.settlement.ledger.dead_letters import DeadLetter
    from metering.settlement.ledger.store import Ledger
    from metering.settlement.replay import Replay
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")

BYTES_MAX = 1024 * 1024
"""Larger than any event; a file that is larger was not meant."""


@click.group()
def dead() -> None:
    """Look at events that could not be booked, and book them."""


@dead.command("list")
@click.option("--all", "with_resolved", is_flag=True, help="Those that were resolved as well.")
@click.option("--reason", metavar="TEXT", help="Only where the reason holds this text.")
@shared_options
def dead_list(
    *,
    with_resolved: bool,
    reason: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """The dead letters that wait, oldest first."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger.dead_letters import dead_letters

    letters = ask_ledger(
        settings,
        lambda ledger: dead_letters(ledger, reason=reason, with_resolved=with_resolved),
        as_json,
    )
    if as_json:
        echo_json({"dead_letters": [_row(each) for each in letters]})
        return
    from proxy import cli_tables

    cli_tables.console().print(cli_tables.dead_letters([_row(each) for each in letters]))


@dead.command("show")
@click.option("--id", "number", type=int, required=True, help="Number of the dead letter.")
@shared_options
def dead_show(
    *, number: int, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """One dead letter, with its bytes as they came."""
    settings = load_config(config_file, data_dir, as_json).settings
    letter = _find(settings, number, as_json)
    row = {**_row(letter), "raw": letter.raw.decode(errors="backslashreplace")}
    if as_json:
        echo_json(row)
        return
    for name, value in row.items():
        if value is not None:
            click.echo(f"{name}: {value}")


@dead.command("replay")
@click.option("--id", "number", type=int, help="Number of the dead letter.")
@click.option("--all", "every", is_flag=True, help="Every dead letter that waits.")
@click.option("--reason", metavar="TEXT", help="With --all: where the reason holds this text.")
@click.option(
    "--file",
    "mended",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --id: a file with the mended event, as JSON.",
)
@click.option("--force", is_flag=True, help="Book it although its bytes or its id are in doubt.")
@click.option("--by", help="Who replays, for the books; the user who is logged in if left out.")
@shared_options
def dead_replay(
    *,
    number: int | None,
    every: bool,
    reason: str | None,
    mended: Path | None,
    force: bool,
    by: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Send dead letters into the ledger once more; nothing is booked twice."""
    if (number is None) is not every:
        raise click.UsageError("name one dead letter with --id, or all of them with --all")
    if number is None and (mended is not None or force):
        raise click.UsageError("--file and --force are for one dead letter: name it with --id")
    if number is not None and reason is not None:
        raise click.UsageError("--reason goes with --all")
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger.dead_letters import dead_letters
    from metering.settlement.replay import Replay

    if number is not None:
        letters = [_find(settings, number, as_json)]
    else:
        letters = ask_ledger(settings, lambda ledger: dead_letters(ledger, reason=reason), as_json)
    request = Replay(by or user_name(as_json), None if mended is None else _read(mended), force)
    results = ask_ledger(
        settings,
        lambda ledger: asyncio.run(_replay(settings, ledger, letters, request)),
        as_json,
    )
    refused = sum(1 for each in results if each["outcome"] == "refused")
    if as_json:
        echo_json({"replayed": results, "refused": refused})
    else:
        for each in results:
            because = f": {each['because']}" if each["because"] else ""
            click.echo(f"{each['id']} {each['outcome']}{because}")
        click.echo(f"{count_of(len(results), 'dead letter')}, {refused} refused")
    sys.exit(FAILED if refused else 0)


@dead.command("close")
@click.option("--id", "number", type=int, required=True, help="Number of the dead letter.")
@click.option("--reason", metavar="TEXT", required=True, help="Why nothing is to be booked.")
@click.option("--by", help="Who closes it, for the books; the user who is logged in if left out.")
@shared_options
def dead_close(
    *,
    number: int,
    reason: str,
    by: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Note that nothing will be booked for a dead letter; it stays in the ledger."""
    if not reason.strip():
        raise click.UsageError("say with --reason why nothing is to be booked")
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from metering.settlement.ledger.dead_letters import close

    letter, who, because = (
        _find(settings, number, as_json),
        by or user_name(as_json),
        reason.strip(),
    )
    is_closed = ask_ledger(
        settings,
        lambda ledger: close(ledger, letter, because=because, by=who, now_ns=now_ns()),
        as_json,
    )
    now = _find(settings, number, as_json)
    if not is_closed:
        was = f"dead letter {number} was resolved before: {now.outcome}, by {now.resolved_by}"
        fail(FAILED, was, as_json)
    if as_json:
        echo_json(_row(now))
    else:
        click.echo(f"{number} {now.outcome}")


async def _replay(
    settings: Settings, ledger: Ledger, letters: Sequence[DeadLetter], request: Replay
) -> list[dict[str, Any]]:
    from metering.settlement.redis_client import connect
    from proxy.admin.replaying import replay_letters
    from proxy.embedded_redis import redis_url
    from proxy.settings import redis_keys

    url = settings.redis.url
    client = connect(redis_url(settings.data_dir) if url is None else url.reveal())
    try:
        return await replay_letters(ledger, client, redis_keys(settings), letters, request)
    finally:
        await client.aclose()


def _find(settings: Settings, number: int, as_json: bool) -> DeadLetter:
    from metering.settlement.ledger.dead_letters import find_dead_letter

    letter = ask_ledger(settings, lambda ledger: find_dead_letter(ledger, number), as_json)
    if letter is None:
        fail(NOT_FOUND, f"no dead letter {number}: `weir dead list --all` has them", as_json)
    return letter


def ask_ledger(settings: Settings, ask: Callable[[Ledger], _Answer], as_json: bool) -> _Answer:
    """What the ledger answers, or the end of the process."""
    from proxy import cli_reports

    try:
        found = cli_reports.read_ledger(settings, lambda ledger: (_current(ledger, ask),))
    except cli_reports.NotFoundError as error:
        fail(NOT_FOUND, str(error), as_json)
    except cli_reports.LedgerError as error:
        fail(FAILED, str(error), as_json)
    if found is None:
        fail(NOT_FOUND, "nothing is settled yet: there is no ledger", as_json)
    return found[0]


def _current(ledger: Ledger, ask: Callable[[Ledger], _Answer]) -> _Answer:
    """What the ledger answers; its worker brings it to this version, and nobody else."""
    from metering.settlement.ledger.tables import HEAD_REVISION
    from proxy.cli_reports import LedgerError

    if (found := ledger.revision()) != HEAD_REVISION:
        raise LedgerError(
            f"the ledger is at schema {found}, this `weir` works with {HEAD_REVISION}: "
            "start a worker of the same version first"
        )
    return ask(ledger)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        body = file.read(BYTES_MAX + 1)
    if len(body) > BYTES_MAX:
        raise click.BadParameter(f"{path} is larger than an event can be", param_hint="--file")
    return body.strip()


def _row(letter: DeadLetter) -> dict[str, Any]:
    from proxy.admin.rows import letter_row

    return letter_row(letter)
