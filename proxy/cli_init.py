"""`weir init`: asks a few questions and writes a configuration that passes `weir config check`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli_import import faults_of, variables_of, write_new
from proxy.cli_options import BAD_CONFIG, FAILED, echo_json, fail

if TYPE_CHECKING:
    from proxy.init_file import Answers


@click.command("init")
@click.argument(
    "file", type=click.Path(dir_okay=False, path_type=Path), default=Path("config.yaml")
)
@click.option("--provider", "providers", multiple=True, help="A vendor to begin with; many.")
@click.option(
    "--key-env", "key_envs", multiple=True, metavar="PROVIDER=NAME", help="Variable of its key."
)
@click.option("--tenant", "tenants", multiple=True, help="A tenant, by id; many.")
@click.option("--daily-cap", metavar="USD", help="USD of each tenant within any 24 hours.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; what is not said is the usual.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def init(
    *,
    file: Path,
    providers: tuple[str, ...],
    key_envs: tuple[str, ...],
    tenants: tuple[str, ...],
    daily_cap: str | None,
    port: int | None,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Ask a few questions and write FILE (config.yaml), commented and sound."""
    from proxy.init_file import first_file

    if file.exists() and not force:  # before anybody answers questions for nothing
        fail(BAD_CONFIG, f"{file} is there already; --force writes over it", as_json)
    asks = not yes and not as_json
    answers = _answers(providers, key_envs, tenants, daily_cap=daily_cap, port=port, asks=asks)
    text = first_file(answers)
    if faults := faults_of(text):
        told = "; ".join(str(each) for each in faults)
        fail(FAILED, f"what came of it is not sound, nothing is written: {told}", as_json)
    write_new(file, text, force=force, as_json=as_json)
    variables = variables_of(text)
    if as_json:
        echo_json({"file": str(file), "set_in_the_environment": variables})
        return
    click.echo(f"{file} is written.")
    if variables:
        click.echo(f"Set {', '.join(variables)} in the environment, then start: weir serve")
    else:
        click.echo("Start: weir serve")


def _answers(
    providers: tuple[str, ...],
    key_envs: tuple[str, ...],
    tenants: tuple[str, ...],
    *,
    daily_cap: str | None,
    port: int | None,
    asks: bool,
) -> Answers:
    """What the options say, what was answered, or the usual."""
    from proxy.init_file import STARTS, Answers

    if asks and not providers:
        providers = _words(click.prompt(f"Providers ({', '.join(STARTS)})", default="simulator"))
    providers = tuple(dict.fromkeys(providers)) or ("simulator",)
    for name in providers:
        if name not in STARTS:
            known = ", ".join(STARTS)
            raise click.BadParameter(f"{name!r} is none of {known}", param_hint="--provider")
    variables = _variables(providers, key_envs, asks=asks)
    if asks and not tenants:
        tenants = _words(click.prompt("Tenants, by id", default="demo"))
    if asks and daily_cap is None:
        daily_cap = click.prompt("USD that each may spend within 24 hours", default="10.00")
    if asks and port is None:
        port = click.prompt("Port", default=8080, type=click.IntRange(0, 65_535))
    return Answers(
        providers,
        variables,
        _ids(tuple(dict.fromkeys(tenants)) or ("demo",)),
        _usd("10.00" if daily_cap is None else daily_cap),
        8080 if port is None else port,
    )


def _variables(
    providers: tuple[str, ...], key_envs: tuple[str, ...], *, asks: bool
) -> dict[str, str]:
    from proxy.init_file import STARTS

    given = dict(each.partition("=")[::2] for each in key_envs)
    for name in given.keys() - set(providers):
        raise click.BadParameter(f"{name!r} is none of the providers", param_hint="--key-env")
    found = {}
    for name in providers:
        usual = STARTS[name].variable
        if not usual:
            continue
        if asks and name not in given:
            given[name] = click.prompt(f"Variable with the key of {name}", default=usual)
        found[name] = given.get(name, usual)
        if not found[name].isascii() or not found[name].isidentifier():
            raise click.BadParameter(  # it may be the key itself: it is not repeated
                f"what is given for {name} is no name of a variable", param_hint="--key-env"
            )
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _ids(names: tuple[str, ...]) -> tuple[str, ...]:
    from metering.ids import is_id

    for name in names:
        if not is_id(name):
            cause = f"{name!r} cannot be an id: 1 to 64 letters, digits, . _ - only"
            raise click.BadParameter(cause, param_hint="--tenant")
    return names


def _usd(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or not 0 < found <= 1_000_000_000:
        raise click.BadParameter(f"{text!r} is no amount in USD", param_hint="--daily-cap")
    return found
