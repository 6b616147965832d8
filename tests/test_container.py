"""The image and the compositions, as far as they can be judged without building them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from proxy.cli import weir

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
COMPOSITIONS = sorted((ROOT / "deploy").glob("compose*.yaml"))
SERVED = {"REDIS_URL": "redis://:x@redis:6379/0", "LEDGER_URL": "postgresql+psycopg://w:x@p/w"}


def instructions(name: str) -> list[str]:
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{name} ")]


def services(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    return {name: each for name, each in found.items() if "build" in each}


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    admitted = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = [
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in shlex.split(line)[:-1]
    ]

    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in admitted, f"{source} is not let through by .dockerignore"


def test_the_image_runs_as_nobody_in_particular() -> None:
    """Two stages, a user of its own before the entry point, a health check, nothing secret."""
    assert len(instructions("FROM")) == 2
    assert instructions("USER") == ["weir"]
    assert LINES.index("USER weir") < LINES.index('ENTRYPOINT ["weir"]')
    assert "useradd --system --uid 10001" in DOCKERFILE
    assert "proxy.healthcheck" in DOCKERFILE
    assert not re.search(r"(?i)(password|secret|api_key)\s*=", DOCKERFILE)


def test_every_package_is_checked_by_its_hash() -> None:
    installs = re.findall(r"pip install[^\n&]*", DOCKERFILE)

    assert installs
    assert all("--require-hashes" in each or "--no-deps" in each for each in installs)


@pytest.mark.parametrize("path", COMPOSITIONS, ids=lambda path: path.name)
def test_containers_may_do_nothing_they_need_not(path: Path) -> None:
    assert services(path)
    for name, service in services(path).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["stop_grace_period"].removesuffix("s")) >= 60, name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the world"


@pytest.mark.parametrize("path", COMPOSITIONS, ids=lambda path: path.name)
def test_every_command_is_one_of_ours(path: Path) -> None:
    """An option that was renamed is found here and not at the next start."""
    for name, service in services(path).items():
        words = service.get("command", ["serve"])
        checked = CliRunner().invoke(weir, [words[0], "--help"])
        assert checked.exit_code == 0, name
        for option in (word for word in words if word.startswith("--")):
            assert option in checked.output, f"{name}: {option}"


def test_the_served_configuration_is_sound() -> None:
    checked = CliRunner().invoke(
        weir,
        ["config", "check", str(ROOT / "deploy" / "scale.yaml")],
        env={**SERVED, "OPENAI_API_KEY": "x", "WEIR_CONFIG": None, "WEIR_DATA_DIR": None},
    )

    assert checked.exit_code == 0, checked.output


def test_redis_never_evicts_and_keeps_what_it_said() -> None:
    scale = yaml.safe_load((ROOT / "deploy" / "compose.scale.yaml").read_text(encoding="utf-8"))
    command = scale["services"]["redis"]["command"]

    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command
