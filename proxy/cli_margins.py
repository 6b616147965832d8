"""`weir margins`: what is earned in a month, beside what it really cost."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli_options import echo_json, load_config, shared_options

BY = ("model", "tenant", "feature", "project")


@click.command()
@click.option("--month", metavar="YYYY-MM", help="UTC month; the current one if left out.")
@click.option("--by", type=click.Choice(BY), default="model", help="What a row is.")
@shared_options
def margins(
    *,
    month: str | None,
    by: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """What was sold, what it cost, the margin and the capture ratio; and models that drift."""
    from metering.clock import now_ns
    from proxy.cli_times import parse_month

    try:
        period = parse_month(month, now_ns())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--month") from None
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.settlement.ledger.provider_books import knows_exports
    from proxy.admin.margin_report import margins_body
    from proxy.cli_asked import asked

    body = asked(
        settings, knows_exports, lambda it: margins_body(it, settings, period, by), as_json=as_json
    )
    if as_json:
        echo_json(body)
        return
    from proxy.cli_margin_tables import margins as table
    from proxy.cli_tables import console

    console().print(table(body))
