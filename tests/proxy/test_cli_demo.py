"""`weir demo` from its start to its end, and beside what runs already."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixtures_needs import need
from fixtures_weir import ROOT, Weir, environment

from proxy.cli import weir as command


def run(*words: str) -> Result:
    return CliRunner().invoke(command, ["demo", *words], env={"WEIR_CONFIG": None})


@pytest.mark.slow(60)
@pytest.mark.timeout(90)
def test_a_demonstration_comes_and_goes(tmp_path: Path) -> None:
    """It starts, is asked for some seconds, tells what came of it, and stops; its data stays where
    it was told to keep it, and nowhere else. What was settled is there for `weir usage`."""
    need("redis-server")
    folder = tmp_path / "kept"
    words = ["demo", "--minutes", "0.05", "--rate", "10", "--data-dir", str(folder), "--json"]

    done = subprocess.run(
        [sys.executable, "-c", "from proxy.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert (body["sent"], body["served"] > 20) == (30, True)
    assert sorted(each.name for each in folder.iterdir()) == ["data", "demo.yaml", "serve.log"]
    usage = CliRunner().invoke(command, ["usage", "--json", "--config", str(folder / "demo.yaml")])
    assert json.loads(usage.stdout)["totals"]["requests"] >= 20


@pytest.mark.slow(60)
@pytest.mark.timeout(90)
def test_what_runs_already_can_be_driven(weir: Weir) -> None:
    """With --running it starts nothing: the minted keys are used, and the model that is named. One
    that costs money, also by its fallback only, is refused, and so is one that is not there."""
    place = ["--config", str(weir.config), "--data-dir", str(weir.data_dir)]

    done = run("--running", "--minutes", "0.01", "--rate", "5", "--model", "demo-mini", *place)

    assert done.exit_code == 0, done.output
    assert weir.url in done.stdout
    assert "Dashboard:" not in done.stdout or str(weir.data_dir / "admin_key") in done.stdout
    assert "3 sent, 0 under way, " in done.stdout
    dear = run("--running", "--model", "gpt-4o", *place)
    missing = run("--running", "--model", "gpt-9", *place)
    assert (dear.exit_code, "which costs money" in dear.stderr) == (2, True)
    assert (missing.exit_code, "no model 'gpt-9'" in missing.stderr) == (3, True)


def test_what_it_refuses(tmp_path: Path) -> None:
    """Somebody's data, somebody's money, and options that mean nothing."""
    (tmp_path / "precious").write_text("x")
    config = tmp_path / "config.yaml"
    config.write_text("tenants: [{id: acme}]")

    other = run("--data-dir", str(tmp_path))
    unserved = run("--running", "--config", str(config), "--data-dir", str(tmp_path / "none"))
    mixed = run("--config", str(config))

    assert (other.exit_code, "is not empty, and no demo's" in other.stderr) == (2, True)
    assert (unserved.exit_code, "nobody serves" in unserved.stderr) == (3, True)
    assert (mixed.exit_code, "go with --running" in mixed.stderr) == (2, True)
