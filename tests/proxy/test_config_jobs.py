"""The sections `jobs` and `retention`, and the schedule under `metering`."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import faults, loaded

from metering.cron import Cron
from metering.job_settings import CatchUp, JobKind, JobSettings, Retention


def test_jobs_and_their_defaults(tmp_path: Path) -> None:
    """A row says what and when; the rest has values that fit most."""
    settings = loaded(
        tmp_path,
        "jobs:\n"
        '  - {job: close, schedule: "30 2 1 * *", timezone: Europe/Berlin, max_wait_hours: 6}\n'
        '  - {job: reconcile, schedule: "0 4 * * *", days: 3, catch_up: all}\n'
        '  - {name: nightly, job: verify, schedule: "0 5 * * *", catch_up: none}\n',
    ).settings

    assert settings.jobs == (
        JobSettings("close", JobKind.CLOSE, Cron("30 2 1 * *", "Europe/Berlin"), max_wait_hours=6),
        JobSettings("reconcile", JobKind.RECONCILE, Cron("0 4 * * *"), CatchUp.ALL, days=3),
        JobSettings("nightly", JobKind.VERIFY, Cron("0 5 * * *"), CatchUp.NONE),
    )


def test_the_schedule_under_metering_is_a_job(tmp_path: Path) -> None:
    """As published templates write it."""
    settings = loaded(tmp_path, 'metering: {reconciliation_schedule: "0 2 * * *"}\n').settings

    assert settings.jobs == (JobSettings("reconcile", JobKind.RECONCILE, Cron("0 2 * * *")),)


def test_retention(tmp_path: Path) -> None:
    """The folder is meant relative to the file."""
    (tmp_path / "old").mkdir()
    text = "retention: {events_days: 400, archive: {format: jsonl.gz, folder: old}}\n"

    assert loaded(tmp_path, text).settings.retention == Retention(400, str(tmp_path / "old"))


FAULTS: dict[str, tuple[str, str]] = {
    "kind": ("jobs: [{job: clos, schedule: '0 2 * * *'}]\n", "1:14 jobs[0].job: must be "),
    "schedule": (
        "jobs: [{job: verify, schedule: '61 * * * *'}]\n",
        "1:32 jobs[0].schedule: '61 * * * *' is no cron schedule: bad minute",
    ),
    "zone": (
        "jobs: [{job: verify, schedule: '0 2 * * *', timezone: Berlin}]\n",
        "1:55 jobs[0].timezone: there is no time zone 'Berlin' on this machine",
    ),
    "twice": (
        "jobs: [{job: verify, schedule: '0 2 * * *'}, {job: verify, schedule: '0 3 * * *'}]\n",
        "1:52 jobs[1].job: an earlier row is a job 'verify' already",
    ),
    "twice with metering": (
        (
            "metering: {reconciliation_schedule: '0 2 * * *'}\n"
            "jobs: [{job: reconcile, schedule: '0 3 * * *'}]\n"
        ),
        "2:14 jobs[0].job: metering.reconciliation_schedule is a job 'reconcile' already",
    ),
    "name": (
        "jobs: [{job: verify, name: 'a b', schedule: '0 2 * * *'}]\n",
        "1:28 jobs[0].name: 'a b' cannot be a name",
    ),
    "option of another": (
        "jobs: [{job: verify, days: 2, schedule: '0 2 * * *'}]\n",
        "1:28 jobs[0].days: means nothing to a job verify (it is reconcile's)",
    ),
    "archive without retention": (
        "jobs: [{job: archive, schedule: '0 2 * * *'}]\n",
        "1:14 jobs[0].job: nothing says from which age on events are archived, nor where",
    ),
    "folder": (
        "retention: {events_days: 90, archive: {folder: nowhere}}\n",
        "1:48 retention.archive.folder: there is no folder ",
    ),
    "too young": (
        "retention: {events_days: 7, archive: {folder: .}}\n",
        "1:26 retention.events_days: ",
    ),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_faults(tmp_path: Path, text: str, expected: str) -> None:
    """Each mistake is one fault: where, what, and what to write."""
    [found] = faults(tmp_path, text)

    assert found.startswith(expected)
