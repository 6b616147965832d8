"""`jobs`, `retention` and `metering.reconciliation_schedule` of the file, as settings."""

from __future__ import annotations

from pathlib import Path as FilePath

from metering.cron import Cron, read_cron
from metering.ids import is_id
from metering.job_settings import (
    MAX_WAIT_HOURS,
    RECONCILE_DAYS,
    CatchUp,
    JobKind,
    JobSettings,
    Retention,
)
from proxy.config_decode import Findings
from proxy.config_jobs_shape import JobShape, RetentionShape
from proxy.config_shape import FileShape
from proxy.config_yaml import Path

_SCHEDULE: Path = ("metering", "reconciliation_schedule")
_OPTIONS = {"days": JobKind.RECONCILE, "max_wait_hours": JobKind.CLOSE}


def build_jobs(shape: FileShape, findings: Findings) -> tuple[JobSettings, ...]:
    """What the worker does by the clock, each under a name of its own."""
    found: dict[str, JobSettings] = {}
    wanted = shape.metering.reconciliation_schedule
    if wanted is not None:
        cron = _cron(wanted, "UTC", _SCHEDULE, None, findings)
        found["reconcile"] = JobSettings("reconcile", JobKind.RECONCILE, cron)
    for index, written in enumerate(shape.jobs):
        path: Path = ("jobs", index)
        name = written.job if written.name is None else written.name
        where = (*path, "job" if written.name is None else "name")
        if not is_id(name):
            findings.fault(where, f"{name!r} cannot be a name", "use letters, digits, . _ -")
        if name in found:
            also = "metering.reconciliation_schedule" if not index else "an earlier row"
            if name == "reconcile" and wanted is not None:
                also = "metering.reconciliation_schedule"
            findings.fault(
                where, f"{also} is a job {name!r} already", "give this one a name of its own"
            )
        found.setdefault(name, _job(name, written, path, findings))
    kinds = {each.kind: each.name for each in found.values()}
    if JobKind.ARCHIVE in kinds and shape.retention is None:
        index = [each.job for each in shape.jobs].index("archive")
        message = "nothing says from which age on events are archived, nor where"
        findings.fault(("jobs", index, "job"), message, "add a section retention")
    return tuple(found.values())


def _job(name: str, written: JobShape, path: Path, findings: Findings) -> JobSettings:
    kind = JobKind(written.job)
    for option, of in _OPTIONS.items():
        if getattr(written, option) is not None and kind is not of:
            findings.fault((*path, option), f"means nothing to a job {kind}", f"it is {of}'s")
    schedule, zone = (*path, "schedule"), (*path, "timezone")
    return JobSettings(
        name=name,
        kind=kind,
        cron=_cron(written.schedule, written.timezone, schedule, zone, findings),
        catch_up=CatchUp(written.catch_up),
        days=written.days or RECONCILE_DAYS,
        max_wait_hours=written.max_wait_hours or MAX_WAIT_HOURS,
    )


def _cron(
    fields: str, timezone: str, path: Path, zone_path: Path | None, findings: Findings
) -> Cron:
    try:
        return read_cron(fields, timezone)
    except ValueError as error:
        hint = f'write "0 2 * * *" for two in the morning{"" if zone_path else ", UTC"}'
        findings.fault(path, f"{fields!r} {error}", hint)
    except KeyError:
        message = f"there is no time zone {timezone!r} on this machine"
        findings.fault(zone_path or path, message, "write it like Europe/Berlin")
    return Cron("0 0 * * *")


def build_retention(
    written: RetentionShape | None, findings: Findings, directory: FilePath
) -> Retention | None:
    """How long payloads stay, and where they go; None without the section."""
    if written is None:
        return None
    folder = (directory / written.archive.folder).resolve()
    if not folder.is_dir():
        path = ("retention", "archive", "folder")
        findings.fault(path, f"there is no folder {folder}", "make it, or name another")
    return Retention(written.events_days, str(folder))
