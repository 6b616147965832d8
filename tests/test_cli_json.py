"""Programs can use every command: `--json` is everywhere, and so are exit codes and error lines."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from proxy.cli import weir

FOR_OTHERS = {"weir completion", "weir config schema"}
"""What these print is for a shell and for an editor: the second is JSON anyway."""


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for each, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {each}")
        else:
            yield f"{name} {each}", command


DIAGNOSES = {"weir doctor"}
"""What says itself that there is no configuration, as one of its checks."""

COMMANDS = dict(commands(weir, "weir"))
CONFIGURED = [
    name
    for name, command in COMMANDS.items()
    if any("--config" in each.opts for each in command.params) and name not in DIAGNOSES
]


def test_every_command_prints_json() -> None:
    """A command that a program cannot read is one that people must read for it."""
    assert {
        name
        for name, command in COMMANDS.items()
        if not any("--json" in each.opts for each in command.params)
    } == FOR_OTHERS


@pytest.mark.parametrize("name", CONFIGURED)
def test_every_error_is_one_line_of_json(name: str) -> None:
    """Whatever a command is for: without its configuration it exits with 2, says why on one line of
    stderr as an object, and prints nothing else."""
    words = name.split()[1:]
    for each in COMMANDS[name].params:
        if isinstance(each, click.Argument) and each.required:
            words.append(_example(each))
        elif isinstance(each, click.Option) and each.required:
            words += [each.opts[0], _example(each)]

    done = CliRunner().invoke(weir, [*words, "--json", "--config", "/nonexistent/weir.yaml"])

    assert (done.exit_code, done.stdout) == (2, ""), done.output
    [line] = done.stderr.splitlines()
    error = json.loads(line)["error"]
    assert error["exit_code"] == 2
    assert error["message"]


def _example(parameter: click.Parameter) -> str:
    if isinstance(parameter.type, click.Choice):
        return str(parameter.type.choices[0])
    return "1"
