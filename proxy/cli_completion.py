"""`weir completion`: scripts for shells, and the names that a configuration completes.

Commands, options and choices come from the option parser itself. Tenants, models and the like are
taken from the configuration file as it stands, unchecked: a file with faults still completes, and
a file that cannot be read completes nothing. Tenants and keys of the registry are those that a
proxy of this machine has kept in `data_dir/registry.json`. What is completed may be no command of a
shell's, so only plain names are offered. Nothing is said on stderr: somebody is typing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

VARIABLE = "_WEIR_COMPLETE"
"""What a shell's function sets when it asks for words."""

SHELLS = ("bash", "zsh", "fish")

_FILE_BYTES_MAX = 2 * 1024 * 1024
"""A larger file takes longer to read than somebody waits for a word."""

_WORD_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/@")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(*, shell: str) -> None:
    """Print the script that completes `weir` in a shell: bash, zsh or fish."""
    root = click.get_current_context().find_root().command
    found = _CLASSES[shell](root, {}, "weir", VARIABLE)
    click.echo(found.source_template % found.source_vars())


def take_over() -> None:
    """Have click ask us for words: called where a shell asks, and nowhere else."""
    for shell, found in _CLASSES.items():
        add_completion_class(found, shell)


def _completing(kind: type[ShellComplete]) -> type[ShellComplete]:
    """The shell's class, with our names before what the parser knows."""

    class Completing(kind):  # type: ignore[misc, valid-type] # mypy wants no base that is a value
        """Completes names from the configuration, and all else as the parser does."""

        def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
            names = names_for(self.cli, args, incomplete)
            if names is None:
                found: list[CompletionItem] = super().get_completions(args, incomplete)
                return found
            return [CompletionItem(name) for name in names]

    Completing.name = kind.name
    return Completing


_CLASSES: dict[str, type[ShellComplete]] = {
    "bash": _completing(BashComplete),
    "zsh": _completing(ZshComplete),
    "fish": _completing(FishComplete),
}


def names_for(root: click.Command, args: list[str], incomplete: str) -> list[str] | None:
    """The names that fit here; None where the place is not one for names of the configuration."""
    args = [word for word in args if word != "="]  # bash takes `--tenant=x` for three words
    command, rest = _command(root, args)
    value = incomplete.removeprefix("=")
    if value.startswith("--") and "=" in value:
        option, _, value = value.partition("=")
    elif value.startswith("-"):
        return None
    else:
        option = args[-1] if args and _takes_value(command, args[-1]) else ""
    if option:
        return _fitting(_OPTIONS.get(option), args, value)
    words = [word for place, word in enumerate(rest) if _is_plain(command, rest, place)]
    return None if words else _fitting(_ARGUMENTS.get(_path(root, args)), args, value)


def _fitting(
    kind: Callable[[Any, str | None], Iterable[Any]] | None, args: list[str], value: str
) -> list[str] | None:
    if kind is None:
        return None
    found = kind(_with_registered(_read(args), args), _option(args, "--tenant"))
    names = {name for name in found if isinstance(name, str) and name.startswith(value)}
    return sorted(name for name in names if name and set(name) <= _WORD_CHARS)


def _command(root: click.Command, args: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words lead to, and what is left of them."""
    for place, word in enumerate(args):
        if not isinstance(root, click.Group):
            return root, args[place:]
        if word in root.commands:
            root = root.commands[word]
        elif not word.startswith("-"):
            return root, args[place:]
    return root, []


def _path(root: click.Command, args: list[str]) -> str:
    names = []
    for word in args:
        if isinstance(root, click.Group) and word in root.commands:
            names.append(word)
            root = root.commands[word]
    return " ".join(names)


def _takes_value(command: click.Command, word: str) -> bool:
    return any(
        word in each.opts and not each.is_flag
        for each in command.params
        if isinstance(each, click.Option)
    )


def _is_plain(command: click.Command, words: list[str], place: int) -> bool:
    """Whether a word is an argument: no option, and not the value of one."""
    if words[place].startswith("-"):
        return False
    return place == 0 or not _takes_value(command, words[place - 1])


def _option(args: list[str], name: str) -> str | None:
    for place, word in enumerate(args):
        if word == name and place + 1 < len(args):
            return args[place + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _read(args: list[str]) -> Any:
    """The configuration file as plain values; nothing of one that cannot be read."""
    import yaml

    from proxy.config_place import ConfigNotFound, find_config

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        path = find_config(_option(args, "--config"), os.environ, Path.cwd())
        if not path.is_file() or path.stat().st_size > _FILE_BYTES_MAX:
            return None
        return yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506 - both are safe loaders
    except (ConfigNotFound, OSError, ValueError, yaml.YAMLError, RecursionError):
        return None


def _with_registered(file: Any, args: list[str]) -> Any:
    """The file with the tenants of the registry after its own, where a copy of it lies here."""
    import orjson

    from proxy.config_place import ConfigNotFound, find_config

    if not isinstance(file, dict):
        return file
    try:
        config = find_config(_option(args, "--config"), os.environ, Path.cwd())
        named = _option(args, "--data-dir") or os.environ.get("WEIR_DATA_DIR")
        written = str(file.get("data_dir") or ".weir")
        data_dir = Path.cwd() / named if named else config.parent / written
        path = data_dir / "registry.json"
        if path.stat().st_size > _FILE_BYTES_MAX:
            return file
        registered = orjson.loads(path.read_bytes())["tenants"]
    except (ConfigNotFound, OSError, ValueError, TypeError, KeyError):
        return file
    own = file.get("tenants")
    return {**file, "tenants": [*(own if isinstance(own, list) else []), *registered]}


def _names(section: str) -> Callable[[Any, str | None], Iterable[Any]]:
    """The keys of a mapping of the file, or the ids of a list."""

    def find(file: Any, _: str | None) -> Iterable[Any]:
        found = file.get(section) if isinstance(file, dict) else None
        return _ids(found)

    return find


def _of_tenant(section: str) -> Callable[[Any, str | None], Iterable[Any]]:
    """The ids in a list of the tenants; of the one that was named, where one was."""

    def find(file: Any, only: str | None) -> Iterable[Any]:
        tenants = file.get("tenants") if isinstance(file, dict) else None
        for tenant in tenants if isinstance(tenants, list) else []:
            if isinstance(tenant, dict) and only in (None, tenant.get("id")):
                yield from _ids(tenant.get(section))

    return find


def _jobs(file: Any, _: str | None) -> Iterable[Any]:
    """The names of jobs, which are their kinds where they have none."""
    found = file.get("jobs") if isinstance(file, dict) else None
    for each in found if isinstance(found, list) else []:
        if isinstance(each, dict):
            yield each.get("name", each.get("job"))


def _ids(found: Any) -> Iterable[Any]:
    if isinstance(found, dict):
        return list(found)
    if isinstance(found, list):
        return [each.get("id") for each in found if isinstance(each, dict)]
    return []


_OPTIONS: dict[str, Callable[[Any, str | None], Iterable[Any]]] = {
    "--tenant": _names("tenants"),
    "--model": _names("models"),
    "--provider": _names("providers"),
    "--plan": _names("plans"),
    "--project": _of_tenant("projects"),
    "--key": _of_tenant("keys"),
    "--job": _jobs,
}

_ARGUMENTS: dict[str, Callable[[Any, str | None], Iterable[Any]]] = {
    "plans show": _names("plans"),
    "prices show": _names("models"),
    "jobs run": _jobs,
    "tenants show": _names("tenants"),
    "tenants set": _names("tenants"),
    "tenants remove": _names("tenants"),
    "keys rotate": _of_tenant("keys"),
    "keys revoke": _of_tenant("keys"),
}
