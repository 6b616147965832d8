"""What a person reads after `weir serve` can be pasted as it stands."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from metering.prices import PriceBook
from proxy import banner
from proxy.settings import Metering, MintedKey, RedisSettings, Secret, Server, Settings
from proxy.sockets import url
from routing.upstreams import Model

URL = "http://127.0.0.1:8080"


def settings(source=None, **fields):
    return Settings(
        source=source,
        server=Server(),
        data_dir=Path(".weir"),
        redis=RedisSettings(),
        ledger_url="sqlite://",
        providers={},
        models={"demo": Model("demo", ())},
        prices=PriceBook(),
        tenants={},
        metering=Metering(),
        **fields,
    )


def test_the_curl_line_is_one_command():
    """A shell reads it as one call with the key and a JSON body."""
    demo = settings(minted_keys=(MintedKey("demo", "first", "default"),))
    text = banner.render(banner.Started(URL, demo, [Secret("sk-weir-k")], False, ""))

    line = text[text.index("curl") : text.index("Then:")]
    words = shlex.split(line)
    assert words[:3] == ["curl", "-N", f"{URL}/v1/chat/completions"]
    assert "authorization: Bearer sk-weir-k" in words
    assert json.loads(words[-1])["model"] == "demo"


def test_every_minted_key_is_shown_with_its_tenant():
    """A key is useless to who cannot tell whose it is; the first one is in the curl line."""
    minted = (MintedKey("demo", "first", "default"), MintedKey("acme", "k1", "default"))
    keys = [Secret("sk-weir-k"), Secret("sk-weir-l")]
    text = banner.render(banner.Started(URL, settings(minted_keys=minted), keys, False, ""))

    assert "  demo key   demo/first  sk-weir-k\n" in text
    assert "  demo key   acme/k1     sk-weir-l\n" in text
    assert "authorization: Bearer sk-weir-k'" in text


@pytest.mark.parametrize(
    ("source", "data_dir", "expected"),
    [
        (None, None, ""),
        (Path("config.yaml"), None, ""),
        (Path("/etc/my weir.yaml"), None, " --config '/etc/my weir.yaml'"),
        (Path("config.yaml"), Path("/srv/weir"), " --data-dir /srv/weir"),
    ],
)
def test_the_next_commands_find_the_same_files(source, data_dir, expected):
    """What is not where a command looks by itself is given as an option."""
    assert banner.options(settings(source), data_dir=data_dir) == expected


def test_every_next_command_has_the_options():
    """Whichever line is copied, it asks about what is served here."""
    started = banner.Started(URL, settings(), [], False, " --config other.yaml")

    following = banner.render(started).partition("Then:")[2].splitlines()
    commands = [line for line in following if "weir" in line]
    assert len(commands) == 3
    assert all(line.endswith(" --config other.yaml") for line in commands)


@pytest.mark.parametrize(
    ("host", "listens", "here"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080", None),
        ("10.1.2.3", "http://10.1.2.3:8080", None),
        ("0.0.0.0", "0.0.0.0:8080: every IPv4 address of this machine", "http://127.0.0.1:8080"),
        ("::", "[::]:8080: every IPv6 address of this machine", "http://[::1]:8080"),
    ],
)
def test_who_listens_everywhere_is_told_so(host, listens, here):
    """Nobody believes a port to be private that is not; the URL for this machine is still there."""
    made = settings()
    made = replace(made, server=replace(made.server, host=host, port=8080))
    text = banner.render(banner.Started(url(host, 8080), made, [], False, ""))

    assert f"Tokenweir listens on {listens}\n" in text
    assert ("From this machine it is" in text) is (here is not None)
    assert here is None or f"From this machine it is {here}\n" in text


def test_the_line_for_a_key_finds_the_same_files():
    """It is made for the tenant of this configuration, not of one that happens to lie here."""
    demo = settings(minted_keys=(MintedKey("demo", "first", "default"),))
    text = banner.render(banner.Started(URL, demo, [], True, " --config /etc/weir.yaml"))

    assert "keys new --tenant demo --config /etc/weir.yaml\n" in text


def test_without_a_worker_the_banner_says_what_is_missing():
    """Windows are rebuilt and usage is settled by the worker alone, so it has to run somewhere."""
    without = settings(settles=False)
    text = banner.render(banner.Started(URL, without, [], False, " --data-dir d"))

    assert "No settlement worker runs here. Start one: weir worker --data-dir d" in text
    assert "503" in text
    assert "settlement worker" not in banner.render(banner.Started(URL, settings(), [], False, ""))


@pytest.mark.parametrize("port", [None, 0, 9464])
def test_the_metrics_port_is_named_when_there_is_one(port):
    """Whoever asked for it sees where it is; nobody else hears of it."""
    made = settings()
    made = replace(made, server=replace(made.server, metrics_port=port))
    text = banner.render(banner.Started(URL, made, [], False, ""))

    assert ("http://127.0.0.1:9464/metrics" in text) is bool(port)
    assert ("Metrics" in text) is bool(port)


def test_a_program_outside_path_is_called_by_its_path(monkeypatch, tmp_path):
    """After `make run` the command lies in .venv, and a bare `weir` would not be found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [".venv/bin/weir", "serve"])

    assert banner.program() == ".venv/bin/weir"
