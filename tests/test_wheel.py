"""The wheel is what people install: it holds everything, nothing else, and runs on its own."""

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("proxy", "routing", "metering")
DATA_SUFFIXES = {
    ".lua",
    ".xz",
    ".json",
    ".html",
    ".css",
    ".js",
    ".mako",
    ".ini",
    ".svg",
    ".typed",
    ".ttf",
}

pytestmark = [pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def wheel(need, tmp_path_factory):
    """The wheel, built from this tree without the network."""
    need("hatchling")
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [built] = target.glob("tokenweir-*.whl")
    return built


class Installed:
    """`weir` in an environment of its own: the wheel, and this interpreter's libraries.

    The libraries come by PYTHONPATH, after the directory that the wheel was installed to; the
    source tree is in neither, so what the wheel lacks is missed. `run` waits for a command to
    end; `start` is for one that serves, and the caller ends it.
    """

    def __init__(self, home, wheel):
        self.home = home
        venv.create(home / "venv", with_pip=False, symlinks=True)
        site = home / "site"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
                *("--disable-pip-version-check", "--target", site, wheel),
            ],
            check=True,
            capture_output=True,
        )
        libraries = _without_this_tree(home / "libraries", Path(sysconfig.get_path("purelib")))
        self.command = [home / "venv/bin/python", "-c", "from proxy.cli import main; main()"]
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(site), str(libraries)]),
        }

    def run(self, *arguments):
        return subprocess.run(
            [*self.command, *arguments],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def start(self, *arguments):
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


@pytest.fixture(scope="module")
def weir(wheel, tmp_path_factory):
    """The wheel, installed far from the source tree."""
    return Installed(tmp_path_factory.mktemp("clean"), wheel)


def _without_this_tree(target, libraries):
    """The installed libraries, link by link, but for an editable install of ourselves.

    A directory on PYTHONPATH runs no `.pth` file, so the source tree cannot come back that way.
    """
    target.mkdir()
    for entry in libraries.iterdir():
        if not entry.name.startswith(("tokenweir", "_tokenweir", "_editable")):
            (target / entry.name).symlink_to(entry)
    return target


def test_the_wheel_holds_what_the_source_holds(wheel):
    """Every module, script, rank file, migration and page of the packages is in it."""
    packed = set(zipfile.ZipFile(wheel).namelist())

    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and (path.suffix in DATA_SUFFIXES | {".py"} or "migrations" in path.parts)
    }
    data = {str(path.relative_to(ROOT)) for path in (ROOT / "metering" / "data").glob("*.*")}
    assert data
    assert wanted | data <= packed


def test_the_wheel_holds_nothing_else(wheel):
    """No tests, no start-up hooks, no caches: our three packages and the metadata."""
    names = zipfile.ZipFile(wheel).namelist()

    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert not [name for name in names if name.endswith((".pth", ".pyc")) or "test_" in name]
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_runs(weir):
    """In a clean environment the command starts, far from the source tree."""
    told = weir.run("--help")

    assert told.returncode == 0, told.stderr
    assert "serve" in told.stdout


def test_the_wheel_finds_its_data(weir):
    """An encoding loads from the package: the rank files are where the code looks for them."""
    code = "from metering.tokenizer import load_encoding as load; print(load('o200k_base').n_vocab)"
    weir_python = [weir.command[0], "-c", code]
    told = subprocess.run(
        weir_python,
        check=False,
        cwd=weir.home,
        env=weir.environment,
        capture_output=True,
        text=True,
    )

    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == "200019"


PORTS = ("--port", "0", "--admin-port", "0")


@contextlib.contextmanager
def serving(weir):
    """URL and demo key of `weir serve` from the wheel, ready to be asked; stopped afterwards."""
    data_dir, config = weir.home / "data", ROOT / "config.yaml"
    process = weir.start("serve", "--config", config, "--data-dir", data_dir, *PORTS)
    try:
        banner = "".join(iter(process.stdout.readline, "Ctrl-C stops everything.\n"))
        url = re.search(r"listens on (\S+)", banner)[1]
        key = re.search(r"demo key\s+(\S+)", banner)[1]
        deadline = time.monotonic() + 20
        while not _is_ready(url):
            assert time.monotonic() < deadline, "the wheel never became ready"
            time.sleep(0.05)
        yield url, key
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
        process.stdout.close()


def _is_ready(url):
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            return response.status == 200
    except urllib.error.HTTPError as refused:
        refused.close()
        return False


def test_the_wheel_serves(weir, need):
    """From nothing to an answered and priced request, with what the wheel brings along."""
    need("redis-server")
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hi!"}], "max_tokens": 5}

    with serving(weir) as (url, key):
        request = urllib.request.Request(
            f"{url}/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            answer = json.load(response)
            cost = response.headers["x-weir-cost-usd"]

    assert answer["usage"]["completion_tokens"] == 5
    assert float(cost) > 0
