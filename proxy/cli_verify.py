"""`weir verify`: the whole installation against the invariants of docs/reliability.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from proxy.cli_options import FAILED, echo_json, fail, load_config, shared_options

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--upstream-journal", type=_FILE, help="What the upstream saw: JSON lines.")
@click.option("--client-journal", type=_FILE, help="What the clients saw: JSON lines.")
@click.option("--samples", type=_FILE, help="Caps and processes over time: JSON lines.")
@click.option(
    "--overshoot-usd", default="0", help="By how much a cap may be passed at any sampled moment."
)
@shared_options
def verify(
    *,
    upstream_journal: Path | None,
    client_journal: Path | None,
    samples: Path | None,
    overshoot_usd: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Check Redis, ledger, totals and invoices against each other.

    For a system at rest: what is in flight is told as not settled yet. Reads only. Exit code 1 when
    something does not hold. The journals are those of a fault run.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.money import parse_decimal, usd_to_nano
    from proxy import cli_invariants
    from proxy.cli_tables import console

    try:
        overshoot_nano = usd_to_nano(parse_decimal(overshoot_usd))
        journals = cli_invariants.read_journals(
            upstream_journal, client_journal, samples, overshoot_nano
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        checks = cli_invariants.run(settings, journals)
    except cli_invariants.CannotVerifyError as error:
        fail(FAILED, str(error), as_json)
    report = cli_invariants.report(checks)
    if as_json:
        echo_json(report)
    else:
        console().print(cli_invariants.table(checks))
    sys.exit(0 if report["ok"] else FAILED)
