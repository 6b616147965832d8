"""`weir jobs` over a real ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_ledger import book, make_event, new_ledger

from proxy.cli import weir


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two jobs and a ledger with an event; no worker."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "data_dir: .\n"
        "jobs:\n"
        '  - {name: nightly, job: verify, schedule: "0 5 * * *"}\n'
        '  - {job: reconcile, schedule: "0 4 * * *", timezone: Europe/Berlin}\n'
    )
    ledger = new_ledger(tmp_path)
    book(ledger, [make_event()])
    ledger.close()
    return path


def run(config: Path, *words: str) -> Result:
    words = ("jobs", *words, "--config", str(config))
    return CliRunner().invoke(weir, words, env={"WEIR_CONFIG": None}, terminal_width=200)


def test_a_run_by_hand_is_listed(config: Path) -> None:
    """With who asked for it and what came of it; the same run is not made twice."""
    when = ("--for", "2026-11-01T05:00:00Z", "--by", "ada")
    first, again = run(config, "run", "nightly", *when), run(config, "run", "nightly", *when)
    forced = run(config, "run", "nightly", *when, "--again", "--json")
    listed = json.loads(run(config, "list", "--json").stdout)["jobs"]
    runs = json.loads(run(config, "runs", "--json").stdout)["runs"]

    assert (first.exit_code, first.stdout) == (0, "nightly: done: ok: 1 events, 1 transactions\n")
    assert (again.exit_code, again.stderr) == (
        1,
        "weir: that run was done already: --again makes it once more\n",
    )
    assert json.loads(forced.stdout)["outcome"] == "done"
    assert [
        (row["job"], row["timezone"], row["last"] and row["last"]["state"]) for row in listed
    ] == [
        ("nightly", "UTC", "done"),
        ("reconcile", "Europe/Berlin", None),
    ]
    assert [(row["scheduled_for_ms"], row["ran_by"], row["attempts"]) for row in runs] == [
        (1_793_509_200_000, "ada", 2)
    ]


def test_tables_for_people(config: Path) -> None:
    run(config, "run", "nightly", "--for", "2026-11-01T05:00:00Z", "--by", "ada")

    listed, runs = run(config, "list").stdout, run(config, "runs", "--job", "nightly").stdout
    none = run(config, "runs", "--job", "reconcile").stdout

    assert "0 5 * * *" in listed
    assert "2026-11-01 05:00" in runs
    assert none == "No run yet.\n"


def test_a_run_that_fails_is_exit_code_1(config: Path) -> None:
    """And its cause is the answer."""
    path = config.parent / "config.yaml"
    path.write_text(
        path.read_text() + "providers: {openai: {type: openai, api_key: sk-x, reconcile: "
        "{admin_key: '${NO_SUCH}'}}}\n"
    )

    result = run(config, "run", "reconcile", "--by", "ada")

    assert result.exit_code == 1
    assert result.stdout == (
        "reconcile: retried: openai: environment variable NO_SUCH is not set\n"
    )


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("run", "nope"), 3, "no job 'nope'"),
        (("run", "nightly", "--for", "noon"), 2, "write it like 2026-11-01T02:00:00Z"),
        (("run", "nightly", "--for", "2026-11-01T05:00:00"), 2, "write it like"),
    ],
)
def test_what_cannot_be_asked(config: Path, words: tuple[str, ...], code: int, says: str) -> None:
    result = run(config, *words)

    assert result.exit_code == code
    assert says in result.stderr


def test_without_jobs_there_is_nothing_to_list(tmp_path: Path) -> None:
    """No ledger is asked for."""
    path = tmp_path / "config.yaml"
    path.write_text("data_dir: .\n")

    result = run(path, "list")

    assert (result.exit_code, result.stdout[:30]) == (0, "Nothing is done by the clock: ")
