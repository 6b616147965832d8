"""`weir explain`: where a request would go and why, without sending it.

Reads the configuration, and of a running installation what is in Redis; writes nothing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli_limits import TIMEOUT_S, client_of, now_ms_of, read_limits, scopes_named
from proxy.cli_options import (
    BAD_CONFIG,
    NOT_FOUND,
    echo_json,
    fail,
    load_config,
    shared_options,
)

if TYPE_CHECKING:
    from metering.caps import Scope
    from metering.tenant_caps import Labels
    from metering.tenants import ApiKey, Tenant
    from proxy.chat import ChatRequest
    from proxy.explain import Seen
    from proxy.settings import Settings
    from routing.health import Health
    from routing.history import History

USUAL_REQUEST = "the usual request"
"""Stands for the dice: none of those that `least_latency` sends exploring."""

FORMATS = {
    "chat": "openai_chat",
    "responses": "openai_responses",
    "messages": "anthropic_messages",
    "completions": "openai_completions",
    "embeddings": "openai_embeddings",
}
"""What `--format` takes: the last word of the path that such a body is sent to."""


@click.command()
@click.option("--tenant", "tenant_id", required=True, help="Id of the tenant.")
@click.option("--model", required=True, help="The model that is asked for.")
@click.option("--key", help="Id of a key; its project and pins come along.")
@click.option("--project", help="Id of a project.")
@click.option("--feature", help="A feature, as in x-weir-feature.")
@click.option("--user", help="A user, as in x-weir-user or the body's `user`.")
@click.option("--session", help="A session, as in x-weir-session.")
@click.option("--tags", help="Tags, as in x-weir-tags.")
@click.option("--target-latency-ms", type=click.IntRange(1), help="How fast the answer is to be.")
@click.option(
    "--request",
    "request_file",
    metavar="FILE",
    help="The request's body, `-` for standard input; a short prompt if left out.",
)
@click.option(
    "--format",
    "spoken",
    type=click.Choice([*FORMATS]),
    default="chat",
    show_default=True,
    help="What the body of --request is one of.",
)
@shared_options
def explain(
    *,
    tenant_id: str,
    model: str,
    key: str | None,
    tags: str | None,
    target_latency_ms: int | None,
    request_file: str | None,
    spoken: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
    **named: str | None,
) -> None:
    """Where a request would go: every upstream, what it would hold, and why another goes first."""
    settings = load_config(config_file, data_dir, as_json).settings
    tenant = settings.tenants.get(tenant_id)
    if tenant is None:
        fail(NOT_FOUND, f"no tenant {tenant_id!r} in {settings.source}", as_json)
    if model not in settings.models:
        fail(NOT_FOUND, f"no model {model!r} in {settings.source}", as_json)
    if request_file is None and spoken != "chat":
        raise click.UsageError("--format says what the body of --request is; name one")
    request = _request(model, request_file, spoken, as_json)
    if request.user is not None and named["user"] is None:
        named["user"] = request.user
    scopes = scopes_named(settings, tenant, key, named, as_json)
    from metering.clock import monotonic_s
    from metering.tenant_caps import caps_under
    from metering.tenants import Principal
    from proxy import cli_tables
    from proxy.choosing import Around, traits_of
    from proxy.explain import Question, explanation
    from proxy.explain_table import explain_table

    seen, health, history = _seen(settings, tenant, scopes)
    who = Principal(tenant, _key(settings, tenant, key, named["project"]))
    traits = traits_of(tenant, who.key, _labels(who.key, named), request, _tags(tags, as_json))
    target_ms = target_latency_ms or settings.models[model].target_latency_ms
    around = Around(USUAL_REQUEST, traits, target_ms, monotonic_s(), history, health)
    asked = Question(who, request, around, caps_under(tenant, scopes))
    body = explanation(settings, asked, seen)
    if as_json:
        echo_json(body)
    else:
        cli_tables.console().print(explain_table(body))


def _request(model: str, file: str | None, spoken: str, as_json: bool) -> ChatRequest:
    """The body in the file, for this model, in that format."""
    import orjson

    from proxy.errors import ApiError
    from proxy.wire import client_format

    body: Any = {"messages": [{"role": "user", "content": "Hello"}]}
    if file is not None:
        try:
            raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
            body = orjson.loads(raw)
        except (OSError, ValueError) as error:
            fail(BAD_CONFIG, f"cannot read {file}: {error}", as_json)
        if not isinstance(body, dict):
            fail(BAD_CONFIG, f"{file} is no body of a request", as_json)
    try:
        raw = orjson.dumps({**body, "model": model})
        return client_format(FORMATS[spoken]).parse_request(raw)
    except ApiError as error:
        fail(BAD_CONFIG, f"{file}: {error.message}", as_json)


def _tags(written: str | None, as_json: bool) -> frozenset[str]:
    from proxy.errors import ApiError
    from proxy.wishes import NO_TAGS, TAGS, tags_of

    if written is None:
        return NO_TAGS
    try:
        return tags_of({TAGS: written})
    except ApiError as error:
        fail(BAD_CONFIG, error.message, as_json)


def _key(settings: Settings, tenant: Tenant, key_id: str | None, project: str | None) -> ApiKey:
    """The key that was named; without one, a key without pins in that project."""
    from metering.tenants import DEFAULT_PROJECT, ApiKey

    minted = [
        ApiKey(each.key_id, "", each.project, each.pins)
        for each in settings.minted_keys
        if each.tenant == tenant.id
    ]
    for key in (*tenant.keys, *minted):
        if key.id == key_id:
            return key
    return ApiKey("-", "", project or DEFAULT_PROJECT)


def _labels(key: ApiKey, named: dict[str, str | None]) -> Labels:
    """What was named, and before that what the key is pinned to."""
    from metering.tenant_caps import Labels

    pins = {str(kind): value for kind, value in key.pins.items()}
    return Labels(**{name: pins.get(name, named.get(name)) for name in Labels._fields})


def _seen(
    settings: Settings, tenant: Tenant, scopes: tuple[Scope, ...]
) -> tuple[Seen, Health | None, History | None]:
    """What Redis has of the caps, the breakers, and how upstreams did; why not, where it cannot be
    read."""
    import asyncio

    from redis.exceptions import RedisError

    from proxy.explain import Seen
    from proxy.limits_report import limits_body

    try:
        look = asyncio.run(read_limits(settings, tenant, scopes))
        health, history = asyncio.run(_upstreams(settings))
    except (RedisError, OSError, ValueError) as error:  # ValueError: a path too long for a socket
        return Seen(cause=str(error) or type(error).__name__), None, None
    return Seen(limits=limits_body(look)), health, history


async def _upstreams(settings: Settings) -> tuple[Health, History]:
    """The breakers as proxies tell each other of them, and how upstreams did, likewise."""
    import asyncio

    from metering.clock import monotonic_s
    from proxy.settings import redis_keys
    from routing.health import Health

    keys = redis_keys(settings)
    async with client_of(settings) as client, asyncio.timeout(TIMEOUT_S):
        now_ms = await now_ms_of(client)
        breakers, notes = await client.hgetall(keys.health), await client.hgetall(keys.history)
    found, now_s = Health(), monotonic_s()
    for label, until_ms in breakers.items():
        left_ms = int(until_ms) - now_ms
        if left_ms > 0:
            found.learn(label.decode(errors="replace"), left_ms / 1000, now_s)
    return found, _history(settings, notes.values(), now_ms)


def _history(settings: Settings, notes: Iterable[bytes], now_ms: int) -> History:
    """What all processes saw, as a process knows it that has just begun; what cannot be read is
    nothing."""
    from metering.clock import monotonic_s
    from proxy.history_sync import left_note
    from routing.history import History

    sources = []
    for raw in notes:
        with contextlib.suppress(ValueError):
            sources.append(left_note(raw, now_ms)[0])
    found, now_s = History(), monotonic_s()
    for label in {up.label for model in settings.models.values() for up in model.upstreams}:
        seen = [source[label] for source in sources if label in source]
        found.learn(label, seen, now_s, shift_s=now_ms / 1000 - now_s)
    return found
