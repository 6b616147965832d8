"""T-90, T-94: what we ship holds what it should, and talks to nobody it was not told about."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from fixtures_needs import need
from fixtures_weir import COMMAND, serving

ROOT = Path(__file__).parents[2]

SHIPPED = re.compile(
    r"(?:(?:proxy|routing|metering)/.+\.(?:py|lua|xz|json|md|mako|typed|html|css|js|svg)"
    r"|proxy/data/demo\.yaml"
    r"|metering/settlement/fonts/(?:DejaVuSans(?:-Bold)?\.ttf|LICENSE-DejaVu\.txt)"
    r"|tests/.+\.(?:py|json|txt|jsonl|sse|csv|yaml|png|md|html)"
    r"|tests/clients/(?:requirements\.(?:in|lock)|programs/.+\.(?:mjs|sh))|docs/.+\.(?:md|svg|png)"
    r"|(?:benchmarks|examples|simulation)/.+\.(?:py|md)"
    r"|config\.yaml|Makefile|[A-Z]+\.md|(?:.+/)?LICENSE[.a-z-]*|NOTICE|PKG-INFO|pyproject\.toml|\.gitignore)"
)
"""Every kind of file that has a place in a source distribution."""


def test_t90_the_source_distribution_holds_what_it_should(tmp_path: Path) -> None:
    """T-90: no start-up hook, no binary, no link, no file of a kind that nobody expects."""
    need("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [built] = tmp_path.glob("tokenweir-*.tar.gz")
    with tarfile.open(built) as archive:
        members = archive.getmembers()

    names = [member.name.partition("/")[2] for member in members]
    assert len(names) > 200
    assert [name for name in names if not SHIPPED.fullmatch(name)] == []
    assert [member.name for member in members if not member.isfile()] == []
    assert not [
        name for name in names if name.endswith((".pth", ".so", ".pyc", "sitecustomize.py"))
    ]


@pytest.mark.slow(60)
@pytest.mark.timeout(60)
def test_t94_nothing_is_reached_that_is_not_configured(tmp_path: Path) -> None:
    """T-94: `weir serve` starts and stops where there is no network, and never tried to use one.

    No telemetry, no update check, no download of rank files or prices: the kernel counted no
    packet without a route, and whatever was sent went through loopback.
    """
    need("redis-server")
    alone = need("own-network")
    with serving(tmp_path, program=[sys.executable, str(alone), *COMMAND]) as weir:
        counted = routes_missed(weir.process.pid)
        assert weir.stop() == 0

    assert counted == 0


def test_t94_the_kernel_would_have_counted_it() -> None:
    """T-94: one look-up of a name, in such a network, shows in the number that is compared."""
    code = (
        "import contextlib, socket, time; sent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "with contextlib.suppress(OSError): sent.connect(('192.0.2.1', 53))\n"
        "print('done', flush=True); time.sleep(30)"
    )
    alone = need("own-network")
    process = subprocess.Popen(
        [sys.executable, alone, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        assert routes_missed(process.pid) > 0
    finally:
        process.kill()
        process.communicate()


def routes_missed(pid: int) -> int:
    """How often something in the network of this process wanted to go where no route leads."""
    names, values = [
        line.split()
        for line in Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
        if line.startswith("Ip:")
    ]
    return int(dict(zip(names, values, strict=True))["OutNoRoutes"])
