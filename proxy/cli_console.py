"""`weir console`: the admin API and the dashboard alone, with proxies and workers elsewhere."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from proxy.cli_options import (
    BAD_CONFIG,
    FAILED,
    absolute_path,
    fail,
    find_config_file,
    load_config,
    shared_options,
)


@click.command("console")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0 picks one.")
@shared_options
def console(
    *,
    host: str | None,
    port: int | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Run the admin API and the dashboard alone, until Ctrl-C.

    For several machines: the proxies run with `serve --no-console`. SIGHUP has it read its
    configuration again.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    if settings.admin is None:
        why = "the configuration has no section `admin`, so nobody asks for a console"
        fail(BAD_CONFIG, f"{why}: add `admin: {{}}`", as_json)
    from sqlalchemy.exc import SQLAlchemyError

    from metering.settlement.ledger.store import open_ledger
    from proxy.config_now import load_now
    from proxy.console_alone import run_console_alone

    try:  # a driver that is not installed is found now, and not at the first question
        open_ledger(settings.ledger_url).close()
    except (SQLAlchemyError, ImportError, OSError) as error:
        fail(FAILED, f"cannot use the ledger: {getattr(error, 'orig', None) or error}", as_json)
    file, directory = find_config_file(config_file, as_json).absolute(), absolute_path(data_dir)
    read = partial(load_now, file, dict(os.environ), data_dir=directory)
    sys.exit(run_console_alone(settings, read, host=host, port=port))
