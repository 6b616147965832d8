"""`weir reload`: the running `weir serve` reads its configuration again, and how that went.

The report is that of a reload that began after it was asked for, so a file that was saved before
this command is what the report is about.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from proxy.cli_options import (
    BAD_CONFIG,
    FAILED,
    NOT_FOUND,
    echo_json,
    fail,
    load_config,
    shared_options,
)

if TYPE_CHECKING:
    from proxy.reload_report import ReloadReport
    from proxy.settings import Settings


@click.command("reload")
@click.option("--all", "everywhere", is_flag=True, help="Tell the other machines, too.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.1, 600), default=30.0, help="Seconds to wait."
)
@shared_options
def reload(
    *,
    everywhere: bool,
    timeout_s: float,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Have the running `weir serve` read its configuration again; no stream is dropped."""
    settings = load_config(config_file, data_dir, as_json).settings
    report = _reloaded(settings.data_dir, timeout_s, as_json)
    from proxy.reload_asked import report_body

    if as_json:
        echo_json({**report_body(report), "announced": everywhere and report.ok})
    else:
        _print(report)
    if report.faults:
        raise SystemExit(BAD_CONFIG)
    if not report.ok:
        raise SystemExit(FAILED)
    if everywhere:
        _announce(settings, report, as_json)
    raise SystemExit(0)


def _reloaded(data_dir: Path, timeout_s: float, as_json: bool) -> ReloadReport:
    """The report of a reload that began after we asked for it."""
    from proxy.reload_asked import NobodyServesError, ReloadFailedError, ask_reload

    try:
        return ask_reload(data_dir, timeout_s)
    except NobodyServesError as error:
        fail(NOT_FOUND, str(error), as_json)
    except ReloadFailedError as error:
        fail(FAILED, str(error), as_json)


def _announce(settings: Settings, report: ReloadReport, as_json: bool) -> None:
    """A hint in Redis: every machine reads its own file again when it sees another one."""
    from metering.clock import now_ms
    from proxy.cli_flags import ask_redis

    word = f"{now_ms()}:{report.sha256[:16]}"
    ask_redis(settings, lambda call, keys: call("SET", keys.announced, word), as_json)


def _since(report: ReloadReport) -> str:
    """Since when, and what it was that was taken up then: usually the file was being watched."""
    from proxy.cli_times import rfc3339

    if not report.before:
        return ""
    at, names = rfc3339(report.before["finished_ns"]), ", ".join(report.before["applied"])
    return f" since {at} ({report.before['why']}; applied then: {names})"


def _print(report: ReloadReport) -> None:
    for each in report.faults:
        place = f"{each['line']}:{each['column']}: " if each.get("line") else ""
        click.echo(f"{place}{each.get('key', '')}: {each['message']}", err=True)
    if report.faults:
        click.echo("weir: refused; the last good configuration stays in use", err=True)
        return
    if not report.applied:
        click.echo(f"nothing to apply: what the file says is in use{_since(report)}")
    for name in report.applied:
        click.echo(f"applied: {name}")
    for name in report.waiting:
        click.echo(f"needs a restart: {name}")
    for name, said in sorted(report.processes.items()):
        click.echo(f"{name}: {said}", err=said.startswith("failed"))
