"""What the commands of `weir` have in common: options, exit codes, and how an answer is given.

Rules: what a program reads goes to stdout, errors go to stderr; with --json an error is one line of
JSON. Imports are made inside the functions, so that `weir --help` loads nothing but click.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from proxy.config import Loaded
    from proxy.config_yaml import Fault

FAILED, BAD_CONFIG, NOT_FOUND = 1, 2, 3
"""Exit codes beside 0."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def shared_options(command: _Command) -> _Command:
    """The options that every command takes."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
        click.option(
            "--data-dir",
            type=click.Path(file_okay=False, path_type=Path),
            envvar="WEIR_DATA_DIR",
            help="Where state is kept ($WEIR_DATA_DIR); goes before data_dir in the file.",
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(),  # nothing is checked; shells complete it as a file
            metavar="FILE",
            help="The configuration file.",
        ),
    ):
        command = option(command)
    return command


def load_config(
    config_file: str | None, data_dir: Path | None, as_json: bool, *, salt: bytes | None = None
) -> Loaded:
    """The configuration, or the end of the process with every fault on stderr."""
    from proxy.config import ConfigFaults
    from proxy.config_now import load_now

    path = find_config_file(config_file, as_json)
    try:
        return load_now(path, os.environ, data_dir=absolute_path(data_dir), salt=salt)
    except ConfigFaults as failure:
        if as_json:
            details = [fault_json(each) for each in failure.faults]
            fail(BAD_CONFIG, "the configuration has faults", as_json, faults=details)
        for each in failure.faults:
            click.echo(f"{path}:{each}", err=True)
        fail(BAD_CONFIG, f"{path} has {count_of(len(failure.faults), 'fault')}", as_json)


def find_config_file(named: str | None, as_json: bool) -> Path:
    """Where the configuration is, or the end of the process with the places tried on stderr."""
    from proxy.config import ConfigNotFound, find_config

    try:
        return find_config(named, os.environ, Path.cwd())
    except ConfigNotFound as missing:
        fail(BAD_CONFIG, str(missing), as_json, tried=[str(path) for path in missing.tried])


def fail(exit_code: int, message: str, as_json: bool, **details: Any) -> NoReturn:
    """End the process with a message on stderr; `details` are told to programs only."""
    if as_json:
        error = {"message": message, "exit_code": exit_code, **details}
        click.echo(json.dumps({"error": error}), err=True)
    else:
        click.echo(f"weir: {message}", err=True)
    sys.exit(exit_code)


def user_name(as_json: bool) -> str:
    """Who is logged in, for what is noted with a name."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user has no name
        fail(BAD_CONFIG, "nobody is logged in by name: say who it is with --by", as_json)


def absolute_path(path: Path | None) -> Path | None:
    """A path as given on the command line, from the current directory or a home."""
    if path is None:
        return None
    try:
        return Path.cwd() / path.expanduser()
    except RuntimeError as error:  # ~somebody who has no home
        raise click.BadParameter(f"{path}: {error}", param_hint="--data-dir") from None


def fault_json(fault: Fault) -> dict[str, Any]:
    """A finding in the configuration, for programs."""
    return {
        "path": fault.path,
        "line": fault.line,
        "column": fault.column,
        "message": fault.message,
        "suggestion": fault.suggestion,
    }


def echo_json(body: dict[str, Any]) -> None:
    """An answer for programs."""
    click.echo(json.dumps(body, indent=2))


def count_of(number: int, noun: str) -> str:
    """`1 fault`, `2 faults`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def print_table(table: Any) -> None:
    """Print what rich has made for people, at once."""
    from proxy.cli_tables import console

    console().print(table)
    sys.stdout.flush()
