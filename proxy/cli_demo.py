"""`weir demo`: a Tokenweir of its own with the bundled simulator, and load, for screens to show.

Rules: it costs nothing and asks nobody but the simulator; it leaves nothing behind unless it was
told where to keep it; and it works in no data directory that is not a demonstration's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli_options import (
    BAD_CONFIG,
    FAILED,
    NOT_FOUND,
    absolute_path,
    echo_json,
    fail,
    load_config,
    shared_options,
)

if TYPE_CHECKING:
    from proxy.demo_drive import Drive
    from proxy.settings import Settings

CONFIG = "demo.yaml"

START_S = 60.0
"""A busy machine takes its time; what goes wrong is seen long before."""

STOP_S = 60.0

_POLL_S = 0.1

_PROGRAM = [sys.executable, "-P", "-c", "from proxy.cli import main; main()"]
"""Ourselves, whatever lies in the current directory."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is driven: where it answers, with which keys, and how commands find it."""

    url: str
    admin: str | None
    keys: dict[str, str]
    models: dict[str, str]
    options: str
    admin_key: Path | None = None
    """Where the key of the dashboard lies, as far as it is one that we minted."""


@click.command()
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), help="How long; else until Ctrl-C."
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 200),
    default=5.0,
    show_default=True,
    help="Requests a second.",
)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="Port to listen on; 0 picks one."
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Which requests; the same again."
)
@click.option("--running", is_flag=True, help="Drive what runs with --config, in place of its own.")
@click.option("--model", help="With --running: the simulator's model to ask; `demo` if left out.")
@shared_options
def demo(
    *,
    minutes: float | None,
    rate: float,
    port: int,
    seed: int,
    running: bool,
    model: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Start a Tokenweir with five tenants and the simulator, and drive load until Ctrl-C.

    Without --data-dir nothing is left behind. With --json the end is one object.
    """
    source = click.get_current_context().get_parameter_source("data_dir")
    if source is not click.core.ParameterSource.COMMANDLINE:
        data_dir = (
            data_dir if running else None
        )  # $WEIR_DATA_DIR is somebody's, and no demonstration
    if not running and (config_file or model):
        raise click.UsageError("--config and --model go with --running: a demo has its own models")
    with contextlib.ExitStack() as stack:
        if running:
            place = _found(config_file, data_dir, model, as_json)
        else:
            if not as_json:
                click.echo("Starting Tokenweir and its simulator ...", err=True)
            place = stack.enter_context(_started(absolute_path(data_dir), port, as_json))
        if not as_json:
            click.echo(_where(place, is_own=not running))
        drive = _driven(place, seed, rate, minutes, as_json)
    from proxy.demo_drive import line, summary

    if as_json:
        echo_json({"url": place.url, **summary(drive)})
    else:
        click.echo(line(drive))
        for reason, count in sorted((drive.refused + drive.failed).items()):
            click.echo(f"  {count:6,}  {reason}")


def _driven(place: Place, seed: int, rate: float, minutes: float | None, as_json: bool) -> Drive:
    """Send until the time is over or somebody ends it; what has happened is counted either way."""
    import asyncio

    from rich.console import Console

    from proxy.demo_drive import Drive, drive, line
    from proxy.demo_load import KEYS, asks

    shares = {name: KEYS.get(name, 1.0) for name in place.keys}
    seen, screen = Drive(), Console(stderr=True)
    is_shown = screen.is_terminal and not as_json

    async def run() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, task.cancel)
        seconds = None if minutes is None else minutes * 60
        status = screen.status("") if is_shown else None
        with status or contextlib.nullcontext():
            await drive(
                place.url,
                keys=place.keys,
                models=place.models,
                asks=asks(seed, shares),
                rate=rate,
                seconds=seconds,
                tell=lambda seen: None if status is None else status.update(line(seen)),
                into=seen,
            )

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(run())
    return seen


@contextlib.contextmanager
def _started(folder: Path | None, port: int, as_json: bool) -> Iterator[Place]:
    """A Tokenweir of our own, stopped at the end; in a folder of its own if none is named."""
    import tempfile

    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-demo-")))
        elif folder.exists() and not (folder / CONFIG).exists() and any(folder.iterdir()):
            fail(BAD_CONFIG, f"{folder} is not empty, and no demo's: name another", as_json)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / CONFIG
        if not config.exists():
            text = files("proxy").joinpath("data", CONFIG).read_text(encoding="utf-8")
            config.write_text(f"{text}\ndata_dir: data\n", encoding="utf-8")
        stack.enter_context(_serving(folder, config, port, as_json))
        state = json.loads((folder / "data" / "serve.json").read_bytes())
        _give_credit(config)
        from proxy.admin_key_file import admin_key_path
        from proxy.demo_load import MODELS

        keys = _minted(folder / "data")
        options = f" --config {shlex.quote(str(config))}"
        models = {each: each for each in MODELS}
        admin_key = admin_key_path(folder / "data")
        yield Place(state["url"], state["admin"], keys, models, options, admin_key)


@contextlib.contextmanager
def _serving(folder: Path, config: Path, port: int, as_json: bool) -> Iterator[None]:
    env = {name: value for name, value in os.environ.items() if name != "WEIR_DATA_DIR"}
    words = ["serve", "--config", str(config), "--port", str(port)]
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [*_PROGRAM, *words],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=env,
            start_new_session=True,  # Ctrl-C is ours: it ends the load first
        )
    try:
        _wait(process, folder, as_json)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], folder: Path, as_json: bool) -> None:
    """Until it answers, or the end of the command with what it said last."""
    from metering.clock import monotonic_s

    state, deadline_s = folder / "data" / "serve.json", monotonic_s() + START_S
    while not state.exists() or json.loads(state.read_bytes())["pid"] != process.pid:
        if process.poll() is not None or monotonic_s() > deadline_s:
            said = (folder / "serve.log").read_text(encoding="utf-8", errors="replace")
            last = said.strip().splitlines()[-1:] or ["it said nothing"]
            fail(FAILED, f"weir serve did not start: {last[0]}", as_json)
        time.sleep(_POLL_S)


def _give_credit(config: Path) -> None:
    """The prepaid tenant's; as soon as the worker has made the ledger. Again it changes nothing."""
    words = ["credits", "grant", "--tenant", "prudent", "--usd", "0.10", "--id", "demo"]
    for _ in range(20):
        done = subprocess.run(  # noqa: S603 - ourselves
            [*_PROGRAM, *words, "--config", str(config)], capture_output=True, check=False
        )
        if done.returncode == 0:
            return
        time.sleep(1)


def _found(
    config_file: str | None, data_dir: Path | None, model: str | None, as_json: bool
) -> Place:
    """What runs already with this configuration."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy.admin_key_file import admin_key_path
    from proxy.data_dir import is_served, state_path
    from proxy.demo_load import MODELS

    if not is_served(settings.data_dir):
        fail(NOT_FOUND, f"nobody serves {settings.data_dir}: start `weir serve`", as_json)
    state = json.loads(state_path(settings.data_dir).read_bytes())
    keys = _minted(settings.data_dir)
    if not keys:
        fail(
            NOT_FOUND, f"no minted key in {settings.data_dir}/keys: `mint: true` makes one", as_json
        )
    if model is None and all(each in settings.models for each in MODELS):
        models = {each: each for each in MODELS}
    else:
        models = dict.fromkeys(MODELS, model or "demo")
    for name in models.values():
        _refuse_costly(settings, name, as_json)
    words: list[Any] = ["--config", settings.source] if config_file else []
    words += ["--data-dir", data_dir] if data_dir else []
    options = "".join(f" {shlex.quote(str(word))}" for word in words)
    admin_key = admin_key_path(settings.data_dir) if not settings.admin_keys else None
    return Place(state["url"], state.get("admin"), keys, models, options, admin_key)


def _refuse_costly(settings: Settings, name: str, as_json: bool) -> None:
    """Load goes to the simulator only: anybody else sends a bill."""
    found = settings.models.get(name)
    if found is None:
        fail(NOT_FOUND, f"no model {name!r} in {settings.source}: name one with --model", as_json)
    reached = [
        found,
        *(settings.models[each] for each in found.fallbacks if each in settings.models),
    ]
    for each in reached:
        for upstream in each.upstreams:
            if settings.providers[upstream.provider].type != "simulator":
                fail(
                    BAD_CONFIG,
                    f"model {each.name!r} reaches {upstream.provider}, which costs money: "
                    "name one of the simulator's with --model",
                    as_json,
                )


def _minted(data_dir: Path) -> dict[str, str]:
    """The keys that `weir serve` has made, by `tenant.key`."""
    found = sorted((data_dir / "keys").glob("*.*"))
    named = {path.name: path.read_text(encoding="ascii").strip() for path in found}
    return {name: key for name, key in named.items() if key.startswith("sk-weir-")}


def _where(place: Place, *, is_own: bool) -> str:
    """Where to look meanwhile."""
    from proxy.banner import program

    weir = program()
    tenant = next(iter(place.keys)).partition(".")[0]
    lines = [f"Tokenweir answers on {place.url}, and load is on its way. In another terminal:", ""]
    commands = ["top", "usage", "usage --by tenant,feature --sort cost", "upstreams", "holds"]
    commands += [f"limits --tenant {each}" for each in ("brook", "corner") if is_own]
    commands += [f"invoice --tenant {tenant}", "doctor"]
    lines += [f"  {weir} {command}{place.options}" for command in commands]
    if place.admin:
        lines += ["", f"  Dashboard: {place.admin}/dashboard"]
        if place.admin_key is not None:
            lines += [f"  Its key lies in {place.admin_key}"]
    lines += ["", "Ctrl-C ends the load" + (" and stops Tokenweir." if is_own else "."), ""]
    return "\n".join(lines)
