"""The command line: `weir serve`, `worker`, `config check`, `keys new`, `usage`, `invoice`.

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 not found. What a program reads goes to
stdout as JSON with --json; errors go to stderr. Imports are made inside the commands, so that
`weir --help` and shell completion load nothing but click. `dead`, `ledger`, `verify` and what sets
flags have modules of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from proxy.cli_admin_keys import keys_admin
from proxy.cli_archive import archive, erase_user
from proxy.cli_backup import backup
from proxy.cli_completion import VARIABLE, completion, take_over
from proxy.cli_config import config_diff, config_explain, config_schema, config_show
from proxy.cli_console import console
from proxy.cli_credits import credit
from proxy.cli_dead import dead
from proxy.cli_demo import demo
from proxy.cli_doctor import doctor
from proxy.cli_explain import explain
from proxy.cli_flags import allow, flags, pause, resume, stop
from proxy.cli_import import import_
from proxy.cli_init import init
from proxy.cli_invoice import invoice
from proxy.cli_invoices import invoices
from proxy.cli_jobs import jobs
from proxy.cli_keys import keys
from proxy.cli_ledger import ledger
from proxy.cli_limits import holds, limits
from proxy.cli_margins import margins
from proxy.cli_options import (
    BAD_CONFIG,
    FAILED,
    NOT_FOUND,
    absolute_path,
    count_of,
    echo_json,
    fail,
    fault_json,
    find_config_file,
    load_config,
    shared_options,
)
from proxy.cli_payments import payments
from proxy.cli_plans import plans
from proxy.cli_prices import prices
from proxy.cli_reconcile import reconcile
from proxy.cli_reload import reload
from proxy.cli_rerate import rerate
from proxy.cli_review import review
from proxy.cli_stripe import stripe
from proxy.cli_tenants import tenants
from proxy.cli_top import top
from proxy.cli_upstreams import upstreams
from proxy.cli_usage import requests, usage
from proxy.cli_verify import verify
from proxy.cli_webhooks import webhooks

if TYPE_CHECKING:
    from proxy.config import Loaded
    from proxy.config_yaml import Fault


def main() -> None:
    """The entry point of the `weir` command."""
    weir(prog_name="weir")


class _Weir(click.Group):
    """The group of all commands. With --json its usage errors are one line of JSON, like any."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        if VARIABLE in os.environ:
            take_over()
        words = list(sys.argv[1:] if args is None else args)
        if "--json" not in words:
            return super().main(words, *more, **options)
        try:
            sys.exit(super().main(words, *more, **(options | {"standalone_mode": False})))
        except click.ClickException as error:
            fail(error.exit_code, error.format_message(), as_json=True)
        except click.Abort:
            fail(FAILED, "aborted", as_json=True)


@click.group(cls=_Weir, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tokenweir", prog_name="weir")
def weir() -> None:
    """Tokenweir: an LLM reverse proxy that meters, caps and settles what tenants spend."""


for each in (dead, doctor, explain, holds, invoice, invoices, ledger, limits, margins, plans):
    weir.add_command(each)
for each in (archive, backup, erase_user):
    ledger.add_command(each)
for each in (credit, prices, reconcile, reload, rerate, review, stripe, upstreams, verify):
    weir.add_command(each)
for each in (
    completion,
    console,
    demo,
    jobs,
    keys,
    payments,
    requests,
    tenants,
    top,
    usage,
    webhooks,
):
    weir.add_command(each)
for each in (stop, allow, pause, resume, flags, webhooks):
    weir.add_command(each)


@weir.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0 picks one.")
@click.option("--admin-port", type=click.IntRange(0, 65_535), help="Port of the admin API.")
@click.option("--workers", type=click.IntRange(1, 256), help="Proxy processes.")
@click.option("--no-worker", is_flag=True, help="Do not start the settlement worker.")
@click.option("--no-console", is_flag=True, help="Do not serve the admin API.")
@shared_options
def serve(
    *,
    host: str | None,
    port: int | None,
    admin_port: int | None,
    workers: int | None,
    no_worker: bool,
    no_console: bool,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Run the proxy, its Redis and the settlement worker until Ctrl-C."""
    salt = os.urandom(16)
    loaded = load_config(config_file, data_dir, as_json, salt=salt)
    _require_driver(loaded.settings.ledger_url, as_json)
    from proxy.config_now import load_now
    from proxy.supervisor import serve as run

    file = find_config_file(config_file, as_json).absolute()
    absolute_dir = absolute_path(data_dir)
    env = dict(os.environ)
    read = partial(load_now, file, env, data_dir=absolute_dir, salt=salt)

    if no_worker:
        _warn_unsettled()
        loaded = replace(loaded, settings=replace(loaded.settings, settles=False))
    sys.exit(
        run(
            loaded,
            host=host,
            port=port,
            admin_port=admin_port,
            data_dir=absolute_dir,
            workers=workers,
            with_worker=not no_worker,
            with_console=not no_console,
            read=read,
            read_again=lambda text: load_now(file, env, data_dir=absolute_dir, text=text),
        )
    )


def _require_driver(ledger_url: str, as_json: bool) -> None:
    """The worker could not start without the database's driver, so `serve` does not either."""
    if ledger_url.startswith("sqlite:///"):  # comes with Python; and SQLAlchemy loads slowly
        return
    from sqlalchemy.exc import SQLAlchemyError

    from metering.settlement.ledger.store import open_ledger

    try:
        open_ledger(ledger_url).close()
    except (SQLAlchemyError, ImportError) as error:
        fail(FAILED, f"cannot use the ledger: {error}", as_json)


def _warn_unsettled() -> None:
    from proxy import telemetry
    from proxy.banner import UNSETTLED

    telemetry.configure()
    telemetry.logger("supervisor").warning("no settlement worker here", detail=UNSETTLED)


@weir.command()
@click.option("--drain", is_flag=True, help="Settle what is waiting, then stop.")
@shared_options
def worker(drain: bool, config_file: str | None, data_dir: Path | None, as_json: bool) -> NoReturn:
    """Run the settlement worker: from the streams to the ledger.

    Without --drain it waits while Redis is away; with it, it gives up after 10 s without progress.
    SIGHUP has it read its configuration again.
    """
    settings = load_config(config_file, data_dir, as_json).settings
    from sqlalchemy.exc import SQLAlchemyError

    from proxy.config_now import load_now
    from proxy.embedded_redis import redis_url
    from proxy.settings import Secret
    from proxy.settling import run_worker

    if settings.redis.url is None:
        if drain and not os.path.isdir(settings.data_dir):  # noqa: PTH112 - a name too long is False
            fail(NOT_FOUND, f"no data_dir {settings.data_dir}: `weir serve` makes it", as_json)
        redis = replace(settings.redis, url=Secret(redis_url(settings.data_dir)))
        settings = replace(settings, redis=redis)
    try:
        file = find_config_file(config_file, as_json).absolute()
        read = partial(load_now, file, dict(os.environ), data_dir=absolute_path(data_dir))
        sys.exit(run_worker(settings, drain=drain, read=read))
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        fail(FAILED, f"cannot settle: {getattr(error, 'orig', None) or error}", as_json)


@weir.group()
def config() -> None:
    """Look at the configuration."""


for each in (config_schema, config_show, config_explain, config_diff):
    config.add_command(each)
keys.add_command(keys_admin)
for each in (init, import_):
    weir.add_command(each)


@config.command("check")
@click.argument("file", required=False)
@shared_options
def config_check(
    *, file: str | None, config_file: str | None, data_dir: Path | None, as_json: bool
) -> NoReturn:
    """Say everything that is wrong with FILE; what passes here is what `serve` starts with."""
    from proxy.config import ConfigFaults
    from proxy.config_now import load_now

    path = find_config_file(file or config_file, as_json)
    try:
        loaded = load_now(path, os.environ, data_dir=absolute_path(data_dir))
    except ConfigFaults as failure:
        _echo_check(as_json, path, faults=failure.faults, warnings=failure.warnings)
        sys.exit(BAD_CONFIG)
    _echo_check(
        as_json,
        path,
        warnings=loaded.warnings,
        unenforced=loaded.unenforced,
        summary=_summary(loaded),
    )
    sys.exit(0)


def _summary(loaded: Loaded) -> dict[str, Any]:
    settings = loaded.settings
    return {
        "models": len(settings.models),
        "tenants": len(settings.tenants),
        "price_rules": len(settings.prices.rules),
        "cost_version": settings.prices.cost_version,
        "sell_version": settings.prices.sell_version,
    }


def _echo_check(
    as_json: bool,
    path: Path,
    *,
    faults: tuple[Fault, ...] = (),
    warnings: tuple[Fault, ...] = (),
    unenforced: tuple[Fault, ...] = (),
    summary: dict[str, Any] | None = None,
) -> None:
    groups = {"faults": faults, "warnings": warnings, "unenforced": unenforced}
    if as_json:
        body = {name: [fault_json(each) for each in group] for name, group in groups.items()}
        echo_json({"ok": not faults, "file": str(path), **body, "summary": summary})
        return
    for name, group in groups.items():
        label = {"faults": "", "warnings": "warning: ", "unenforced": "not enforced yet: "}[name]
        for each in group:
            click.echo(f"{path}:{each.located(label)}")
    if summary is None:
        click.echo(f"{path}: {count_of(len(faults), 'fault')}")
        return
    click.echo(
        f"{path}: ok, {count_of(summary['models'], 'model')}, "
        f"{count_of(summary['tenants'], 'tenant')}, "
        f"prices cost {summary['cost_version']} sell {summary['sell_version']}"
    )


if __name__ == "__main__":
    main()
