"""`weir ledger backup`: a copy of the ledger while everything goes on running."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli_options import BAD_CONFIG, FAILED, echo_json, fail, load_config, shared_options
from proxy.cli_progress import progress, watched

_SQLITE = "sqlite:///"


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@shared_options
def backup(file: Path, *, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Copy the SQLite ledger to FILE, as it is at one moment. Everything may go on running."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger.backup import UNFINISHED, BackupError, back_up

    if not settings.ledger_url.startswith(_SQLITE):
        fail(BAD_CONFIG, "the ledger is no SQLite file: back it up with pg_dump", as_json)
    ledger = Path(settings.ledger_url.removeprefix(_SQLITE).partition("?")[0])
    unfinished = file.with_name(file.name + UNFINISHED)

    def copied() -> tuple[int, int | None]:
        try:
            return unfinished.stat().st_size, ledger.stat().st_size
        except OSError:  # not begun yet, or done
            return 0, None

    try:
        with progress("Copying bytes", as_json=as_json) as tell, watched(copied, tell):
            size = back_up(ledger, file)
    except BackupError as error:
        fail(FAILED, str(error), as_json)
    if as_json:
        echo_json({"file": str(file), "bytes": size})
    else:
        click.echo(f"{file}: {size:,} bytes")
