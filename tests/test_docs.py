"""What can be set or typed stands in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from proxy.cli import weir
from proxy.config import UNENFORCED
from proxy.config_decode import shape_keys

DOCS = Path(__file__).parents[1] / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
ROWS = {
    match[1]: match[0]
    for match in re.finditer(r"^\| `([^`]+)` \|.*$", CONFIGURATION, flags=re.MULTILINE)
}


def test_every_key_is_documented() -> None:
    """Every key of the file has a row, and every row is a key."""
    assert sorted(ROWS) == sorted(shape_keys())


def test_every_unenforced_key_says_so() -> None:
    """A key that does nothing yet is marked where it is explained, and no other is."""
    patterns = [
        re.compile(re.escape(pattern).replace(r"\*", "[a-z_*]+")) for pattern, _, _ in UNENFORCED
    ]

    for key, row in ROWS.items():
        path = key.replace("[]", ".*").replace("NAME", "*")
        sleeps = any(pattern.fullmatch(path) for pattern in patterns)
        assert ("Not enforced yet" in row) is sleeps, key


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for each, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {each}")
        else:
            yield f"{name} {each}", command


@pytest.mark.parametrize(("name", "command"), list(_commands(weir, "weir")))
def test_every_command_is_documented(name: str, command: click.Command) -> None:
    """Every command has a section, and its options stand there or among those of all commands."""
    everywhere, *_ = CLI.split("\n## ", 1)
    section = CLI.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    options = [
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    ]

    assert section
    assert [option for option in options if f"`{option}" not in section + everywhere] == []
