"""`weir stop`, `allow`, `pause`, `resume`, `flags`: what may not spend any more, said by a person.

The flags go straight to Redis, so they hold for the next request of every proxy; what runs already
is ended at its next renewal. Nothing here needs the proxy or the worker to be up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proxy.cli_options import (
    FAILED,
    NOT_FOUND,
    echo_json,
    fail,
    load_config,
    shared_options,
    user_name,
)

if TYPE_CHECKING:
    from metering.caps import Scope
    from metering.flags import Call, Flag
    from metering.redis_keys import RedisKeys
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")
_Command = TypeVar("_Command", bound=Callable[..., Any])
_Work = Callable[["Call", "RedisKeys"], Awaitable[_Answer]]

SCOPES = ("run", "session", "key", "user", "feature", "project")
"""What within a tenant can be named; one at a time, and none means the tenant itself."""

_IDS = ("run", "session", "feature")
"""Those that requests name by an id and by nothing else."""

_TIMEOUT_S = 5.0


def _scope_options(command: _Command) -> _Command:
    """`--tenant` and what within it."""
    either = click.option("--scope", metavar="KIND:ID", help="The same as `weir flags` shows it.")
    command = either(command)
    for name in reversed(SCOPES):
        command = click.option(f"--{name}", metavar="ID", help=f"Only this {name}.")(command)
    return click.option("--tenant", required=True, help="Whose spending.")(command)


def _story_options(command: _Command) -> _Command:
    """Who and why."""
    by = click.option("--by", help="Who does it; the user who is logged in if left out.")
    why = click.option("--reason", metavar="TEXT", required=True, help="Why, for whoever asks.")
    return by(why(command))


@click.command("stop")
@_scope_options
@_story_options
@shared_options
def stop(*, tenant: str, reason: str, by: str | None, **options: Any) -> None:
    """Refuse whatever runs there from now on, and end what runs already."""
    _put_up("killed", tenant, reason, by, options)


@click.command("allow")
@_scope_options
@shared_options
def allow(*, tenant: str, **options: Any) -> None:
    """Take back a `weir stop`."""
    _take_down("killed", tenant, options)


@click.command("pause")
@_scope_options
@_story_options
@shared_options
def pause(*, tenant: str, reason: str, by: str | None, **options: Any) -> None:
    """Refuse what comes until `weir resume`, and end what runs already."""
    _put_up("paused", tenant, reason, by, options)


@click.command("resume")
@_scope_options
@shared_options
def resume(*, tenant: str, **options: Any) -> None:
    """Take back a `weir pause`."""
    _take_down("paused", tenant, options)


@click.command("flags")
@click.option("--tenant", required=True, help="Whose flags.")
@shared_options
def flags(*, tenant: str, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """What of a tenant is paused or stopped: who did it, why, and when."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.flags import flags as read_flags
    from metering.flags import stage_min

    async def look(call: Call, keys: RedisKeys) -> tuple[list[Flag], int]:
        return await read_flags(call, keys, tenant), await stage_min(call, keys, tenant)

    found, floor = ask_redis(settings, look, as_json)
    if not found and not floor and settings.tenants.get(tenant) is None:
        fail(NOT_FOUND, f"no tenant {tenant!r} in {settings.source}, and no flag of it", as_json)
    rows = [_row(each, tenant) for each in found]
    if as_json:
        echo_json({"tenant": tenant, "flags": rows, "stage_min": floor})
        return
    from proxy import cli_tables

    cli_tables.console().print(cli_tables.flags(rows))
    if floor:
        click.echo(f"degradation stage: at least {floor}")


def _put_up(kind: str, tenant: str, reason: str, by: str | None, options: dict[str, Any]) -> None:
    from metering.clock import now_ms
    from metering.flags import Flag, FlagKind, put_up

    if not reason.strip():
        raise click.UsageError("say with --reason why")
    settings, scope, as_json = _read(tenant, options)
    flag = Flag(FlagKind(kind), scope, by or user_name(as_json), reason.strip(), now_ms())
    ask_redis(settings, lambda call, keys: put_up(call, keys, tenant, flag), as_json)
    _tell(kind, tenant, scope, as_json)


def _take_down(kind: str, tenant: str, options: dict[str, Any]) -> None:
    from metering.flags import FlagKind, take_down

    settings, scope, as_json = _read(tenant, options)

    def work(call: Call, keys: RedisKeys) -> Awaitable[bool]:
        return take_down(call, keys, tenant, FlagKind(kind), scope)

    if not ask_redis(settings, work, as_json):
        named = _name(tenant, scope)
        fail(NOT_FOUND, f"{named} is not {kind}: `weir flags --tenant {tenant}`", as_json)
    _tell(f"not {kind}", tenant, scope, as_json)


def _read(tenant: str, options: dict[str, Any]) -> tuple[Settings, Scope, bool]:
    """The settings and the scope; a tenant or key that is not configured is a typing error, and one
    that was taken out of the file spends nothing."""
    from metering.caps import Scope, ScopeKind
    from metering.ids import is_id, scope_id
    from metering.scope_names import parse_scope

    as_json = options["as_json"]
    settings = load_config(options["config_file"], options["data_dir"], as_json).settings
    named = {name: options[name] for name in (*SCOPES, "scope") if options[name] is not None}
    if len(named) > 1:
        raise click.UsageError(f"name one of {', '.join(f'--{name}' for name in named)}")
    owner = settings.tenants.get(tenant)
    if owner is None:
        fail(NOT_FOUND, f"no tenant {tenant!r} in {settings.source}", as_json)
    if not named:
        return settings, Scope(ScopeKind.TENANT), as_json
    [(kind, text)] = named.items()
    if kind == "scope":
        try:
            found = parse_scope(text, tenant)
        except ValueError as error:
            raise click.UsageError(f"--scope: {error}") from None
        if found.kind is ScopeKind.TENANT:
            return settings, found, as_json
        kind, text = found.kind.value, found.id
    if not text:
        raise click.UsageError(f"--{kind} needs a name")
    if kind in _IDS and not is_id(text):  # no request can be in it, so a flag would stop nothing
        wanted = "1 to 64 letters, digits, dots, dashes or underscores"
        raise click.UsageError(f"--{kind} takes {wanted}, as `x-weir-{kind}` does")
    if kind == "key" and text not in {key.id for key in owner.keys}:
        fail(NOT_FOUND, f"tenant {tenant!r} has no key {text!r}", as_json)
    known = {*owner.projects, *(key.project for key in owner.keys)}
    if kind == "project" and text not in known:
        fail(NOT_FOUND, f"tenant {tenant!r} has no project {text!r}", as_json)
    return settings, Scope(ScopeKind(kind), scope_id(text)), as_json


def ask_redis(settings: Settings, work: _Work[_Answer], as_json: bool) -> _Answer:
    """What Redis answers, or the end of the process."""
    from redis.exceptions import RedisError

    try:
        return asyncio.run(_with_redis(settings, work))
    except (RedisError, OSError, TimeoutError) as error:
        fail(FAILED, f"Redis cannot be asked: {error or 'no answer in time'}", as_json)


async def _with_redis(settings: Settings, work: _Work[_Answer]) -> _Answer:
    from metering.settlement.redis_client import connect
    from proxy.embedded_redis import redis_url
    from proxy.settings import redis_keys

    url = settings.redis.url
    client = connect(redis_url(settings.data_dir) if url is None else url.reveal())
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await work(client.execute_command, redis_keys(settings))
    finally:
        await client.aclose()


def _tell(what: str, tenant: str, scope: Scope, as_json: bool) -> None:
    from metering.scope_names import scope_text

    if as_json:
        echo_json({"tenant": tenant, "scope": scope_text(scope, tenant), "now": what})
    else:
        click.echo(f"{_name(tenant, scope)}: {what}")


def _name(tenant: str, scope: Scope) -> str:
    from metering.scope_names import scope_text

    return f"{scope_text(scope, tenant)} of tenant {tenant}" if scope.id else f"tenant {tenant}"


def _row(flag: Flag, tenant: str) -> dict[str, Any]:
    from proxy.admin.rows import flag_row

    return flag_row(flag, tenant)
