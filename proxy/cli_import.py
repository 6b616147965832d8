"""`weir import`: the configuration of another proxy as one of ours, with a report.

The file is written only when it is sound, and never over another one without --force.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli_options import BAD_CONFIG, FAILED, count_of, echo_json, fail

if TYPE_CHECKING:
    from proxy.config_yaml import Fault
    from proxy.litellm_import import Imported, Report


@click.group("import")
def import_() -> None:
    """Take over the configuration of another proxy."""


@import_.command("litellm")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("config.yaml"),
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def litellm(*, file: Path, out: Path, force: bool, as_json: bool) -> None:
    """Write config.yaml from LiteLLM's FILE, and say what became of each of its keys."""
    from proxy.litellm_import import NotLiteLLM, read_litellm, written

    try:
        found = read_litellm(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, NotLiteLLM) as error:
        fail(BAD_CONFIG, f"{file}: {error}", as_json)
    head = [f"Made by `weir import litellm` from {file.name}.", "See docs/configuration.md."]
    faults = _checked(found)
    text = written(found.tree, head)
    if faults:
        for each in faults if not as_json else ():
            click.echo(str(each), err=True)
        fail(FAILED, "what came of it is not sound; nothing is written", as_json)
    write_new(out, text, force=force, as_json=as_json)
    unset = [name for name in variables_of(text) if name not in os.environ]
    if as_json:
        echo_json({"file": str(out), **_body(found.report), "set_in_the_environment": unset})
    else:
        _print(found.report, out, unset)


def write_new(path: Path, text: str, *, force: bool, as_json: bool) -> None:
    """Write a file that is not there yet, or that may be lost."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail(BAD_CONFIG, f"{path} is there already; --force writes over it", as_json)
    except OSError as error:
        fail(FAILED, f"cannot write {path}: {error.strerror}", as_json)


def variables_of(text: str) -> list[str]:
    """The variables that a configuration needs."""
    return sorted(set(re.findall(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", text)))


def faults_of(text: str) -> tuple[Fault, ...]:
    """What `weir config check` would have against it, with every variable set to something."""
    import tempfile

    from proxy.config import ConfigFaults
    from proxy.config_now import load_now

    env = dict.fromkeys(variables_of(text), "https://set-me.invalid") | dict(os.environ)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        try:
            load_now(path, env)
        except ConfigFaults as failure:
            return failure.faults
    return ()


def _checked(found: Imported) -> tuple[Fault, ...]:
    """The faults that remain once models without a price are left out, where money is capped."""
    from proxy.litellm_import import without_models, written

    faults = faults_of(written(found.tree, ()))
    unpriced = {
        match[1].strip('"')
        for each in faults
        if "no price for" in each.message
        and (match := re.match(r'models\.("[^"]+"|[^.\[]+)', each.path))
    }
    if not unpriced:
        return faults
    without_models(found, unpriced)
    return faults_of(written(found.tree, ()))


def _body(report: Report) -> dict[str, Any]:
    def told(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
        return [{"key": key, "why": why} for key, why in pairs]

    return {
        "carried": report.carried,
        "changed": told(report.changed),
        "not_carried": told(report.dropped),
    }


def _print(report: Report, out: Path, unset: list[str]) -> None:
    for key in report.carried:
        click.echo(f"carried      {key}")
    for key, why in report.changed:
        click.echo(f"changed      {key}: {why}")
    for key, why in report.dropped:
        click.echo(f"not carried  {key}: {why}")
    click.echo(
        f"{out} is written: {len(report.carried)} carried, {len(report.changed)} changed, "
        f"{len(report.dropped)} not carried"
    )
    if unset:
        what = count_of(len(unset), "variable")
        click.echo(f"set {what} before you start: {', '.join(unset)}")
