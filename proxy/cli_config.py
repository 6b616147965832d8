"""`weir config schema`, `show`, `explain` and `diff`: the configuration that explains itself.

No secret is printed: what is shown is made by `proxy.config_leaves`. `show` and `diff` take a file
that `weir config check` passes; `explain` takes any that can be parsed, or none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from proxy.cli_options import (
    BAD_CONFIG,
    FAILED,
    NOT_FOUND,
    absolute_path,
    count_of,
    echo_json,
    fail,
    find_config_file,
    load_config,
    shared_options,
)

if TYPE_CHECKING:
    from proxy.config_differences import Difference
    from proxy.config_keys import Key
    from proxy.config_leaves import Told
    from proxy.config_yaml import Document


@click.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from proxy.config_schema import schema_text

    click.echo(schema_text(), nl=False)


@click.command("show")
@shared_options
def config_show(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Print the whole configuration, defaults filled in; secrets and variables stay hidden."""
    load_config(config_file, data_dir, as_json)  # with faults there is nothing to show
    from proxy.config_decode import Findings, decode
    from proxy.config_leaves import shown_tree

    document = _document(find_config_file(config_file, as_json), as_json)
    tree = shown_tree(decode(Findings(document)), document)
    if as_json:
        echo_json(tree)
        return
    import yaml

    click.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)


@click.command("explain")
@click.argument("key")
@shared_options
def config_explain(
    *, key: str, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Say what KEY means, what it may be, where the file sets it, and when a change holds."""
    from proxy.config import ConfigNotFound, find_config
    from proxy.config_decode import suggest
    from proxy.config_keys import UnknownKey, find_key
    from proxy.config_yaml import parse

    path, document = None, parse("", {})
    try:
        path = find_config(config_file, os.environ, Path.cwd())
        document = _document(path, as_json)
    except ConfigNotFound as missing:
        if config_file is not None:
            fail(BAD_CONFIG, str(missing), as_json)
    try:
        found = find_key(key, document.tree)
    except UnknownKey as unknown:
        hint = suggest(unknown.step, unknown.known)
        fail(NOT_FOUND, f"{unknown}{f' ({hint})' if hint else ''}", as_json)
    told = _explained(found, path, document)
    if as_json:
        echo_json(told)
    else:
        _print_explained(told)


@click.command("diff")
@click.argument("file", required=False)
@click.option(
    "--against", metavar="FILE|running", default="running", help="What FILE is compared with."
)
@shared_options
def config_diff(
    *,
    file: str | None,
    against: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Say what would change if FILE took the place of what runs, or of another file."""
    from proxy.config_differences import differences

    salt = os.urandom(16)
    if against == "running":
        before = _running(file or config_file, data_dir, as_json)
        salt = before.salt
    else:
        before = _told(against, data_dir, as_json, salt)
    after = _told(file or config_file, data_dir, as_json, salt)
    found = differences(before.leaves, after.leaves)
    restart = [each.key for each in found if each.effect != "at once"]
    if as_json:
        body = [each.as_json() for each in found]
        echo_json({"against": against, "differences": body, "needs_a_restart": restart})
    else:
        _print_differences(found, restart)
    raise SystemExit(0)


def _told(named: str | None, data_dir: Path | None, as_json: bool, salt: bytes) -> Told:
    told = load_config(named, data_dir, as_json, salt=salt).told
    assert told is not None
    return told


def _running(named: str | None, data_dir: Path | None, as_json: bool) -> Told:
    from proxy.data_dir import serving_pid
    from proxy.running_config import read_running, running_path

    settings = load_config(named, data_dir, as_json).settings
    where = absolute_path(data_dir) or settings.data_dir
    if serving_pid(where) is None:
        remedy = "start `weir serve`, or compare with a file: --against FILE"
        fail(NOT_FOUND, f"nobody serves {where}: {remedy}", as_json)
    found = read_running(where)
    if found is None:
        cause = "an older `weir serve` does not write it; restart it"
        fail(FAILED, f"cannot read {running_path(where)}: {cause}", as_json)
    return found


def _document(path: Path, as_json: bool) -> Document:
    from proxy.config_yaml import parse

    try:
        document = parse(path.read_text(encoding="utf-8-sig"), os.environ)
    except (OSError, ValueError) as error:
        fail(BAD_CONFIG, f"{path} cannot be read: {error}", as_json)
    if document.tree is None and document.faults:
        fail(BAD_CONFIG, f"{path}:{document.faults[0]}", as_json)
    return document


def _explained(key: Key, path: Path | None, document: Document) -> dict[str, Any]:
    from proxy.config import UNENFORCED
    from proxy.config_keys import effect_of
    from proxy.config_leaves import shown
    from proxy.config_yaml import format_path

    effect, below = effect_of(key.pattern)
    places = [
        {
            "key": format_path(place),
            "line": document.key_places.get(place, document.places[place])[0],
            "value": None if key.keys else shown(document.at(place), place, document),
        }
        for place in document.places
        if place and (place == key.path if key.path else _fits(place, key.pattern))
    ]
    return {
        "key": key.pattern,
        "meaning": key.description,
        "type": key.type,
        "required": key.is_required,
        "default": key.default,
        "takes_effect": effect,
        "needs_a_restart": list(below),
        "not_enforced": next((why for name, why, _ in UNENFORCED if name == key.pattern), None),
        "documentation": key.page,
        "file": None if path is None else str(path),
        "set": places,
        "keys": list(key.keys),
    }


def _fits(place: tuple[str | int, ...], pattern: str) -> bool:
    """Whether the pattern, with its `[]` and NAME, is about this place."""
    steps = pattern.replace("[]", ".[]").split(".")
    return len(steps) == len(place) and all(
        want == "NAME" or (want == "[]" and isinstance(step, int)) or want == step
        for want, step in zip(steps, place, strict=True)
    )


def _print_explained(told: dict[str, Any]) -> None:
    click.echo(f"{told['key']}\n  {told['meaning']}\n")
    click.echo(f"  type           {told['type']}")
    if told["required"]:
        click.echo("  default        none: it is required")
    elif not told["keys"]:
        default = "none" if told["default"] is None else _word(told["default"])
        click.echo(f"  default        {default}")
    for each in told["set"]:
        value = "" if told["keys"] or isinstance(each["value"], dict | list) else each["value"]
        click.echo(f"  set            {told['file']}:{each['line']} {each['key']} {_word(value)}")
    if not told["set"]:
        where = told["file"] or "no configuration file was found"
        click.echo(f"  set            nowhere ({where})")
    names = f": {', '.join(told['needs_a_restart'])}" if told["needs_a_restart"] else ""
    effect = "at once, but after a restart" if names else told["takes_effect"]
    click.echo(f"  a change holds {effect}{names}")
    if told["not_enforced"]:
        click.echo(f"  not enforced   {told['not_enforced']}")
    click.echo(f"  documentation  {told['documentation']}")
    if told["keys"]:
        click.echo(f"  keys           {', '.join(told['keys'])}")


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print_differences(found: list[Difference], restart: list[str]) -> None:
    for each in found:
        before = "default" if each.before is None else _word(each.before.shown)
        after = "default" if each.after is None else _word(each.after.shown)
        if before == after:  # a secret, or a variable that stands for something else
            after += " (another value)"
        wait = "" if each.effect == "at once" else f"  [{each.effect}]"
        click.echo(f"{each.kind:8} {each.key}: {before} -> {after}{wait}")
    if not found:
        click.echo("no difference")
        return
    waiting = f", {len(restart)} of them with a restart" if restart else ", all of them at once"
    click.echo(f"{count_of(len(found), 'difference')}{waiting}")
