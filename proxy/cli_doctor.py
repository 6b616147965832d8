"""`weir doctor`: why an invoice is empty or a number is off, in sentences with what to do next."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from proxy.cli_options import FAILED, echo_json, shared_options

if TYPE_CHECKING:
    from metering.settlement.doctor import Said


@click.command()
@click.option("--tenant", help="Whose month; without it only the installation is looked at.")
@click.option("--month", metavar="YYYY-MM", help="UTC month; the current one if left out.")
@click.option("--all", "everything", is_flag=True, help="Show the numbers of every check, too.")
@shared_options
def doctor(
    *,
    tenant: str | None,
    month: str | None,
    everything: bool,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Say why an invoice is empty or a number is off, and what to do about it.

    Reads only, works while parts are down, and waits for none of them. Exit code 1 for trouble.
    """
    from metering.clock import now_ns
    from metering.settlement.doctor import examine, is_well
    from proxy.cli_doctoring import facts_of, faulty
    from proxy.cli_times import parse_month

    at_ns = now_ns()
    try:
        period = parse_month(month, at_ns)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--month") from None
    said = faulty(config_file, data_dir)
    if said is None:
        said = examine(facts_of(config_file, data_dir, tenant, period, at_ns))
    ok = is_well(said)
    if as_json:
        checks = [each.body() for each in said]
        echo_json({"ok": ok, "tenant": tenant, "month": period, "checks": checks})
    else:
        _print(said, everything=everything)
    sys.exit(0 if ok else FAILED)


def _print(said: list[Said], *, everything: bool) -> None:
    from proxy import cli_tables
    from proxy.cli_doctor_tables import findings

    cli_tables.console().print(findings([each.body() for each in said], everything=everything))
