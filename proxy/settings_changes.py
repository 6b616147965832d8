"""What differs between two settings, what of it holds at once, and what waits for a restart. Pure.

Rules:
- Every field of the settings stands in a table here; tests/proxy/test_settings_changes.py fails
  when a new one does not.
- What a running process cannot change keeps its value, and is named. The rest holds at once: a
  change that waits is no reason to go on with an old cap or a revoked key.
- Only names are told, never values: they may be secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from proxy.settings import Provider, Settings

AT_ONCE: Mapping[str, str] = {
    "providers": "providers",
    "models": "models",
    "prices": "pricing",
    "tenants": "tenants",
    "registry": "tenants.registry",
    "default_output_tokens": "limits.default_output_tokens",
    "default_tool_uses": "limits.default_tool_uses",
    "clamp_max_tokens": "limits.clamp_max_tokens",
    "min_output_tokens": "limits.min_output_tokens",
    "stream_slice_tokens": "limits.stream_slice_tokens",
    "on_exhausted": "limits.on_exhausted",
    "cost_rules": "cost_to_serve",
    "sla_credit_ppm": "sla",
    "minted_keys": "tenants.keys.mint",
    "egress": "egress",
    "tolerances": "anomalies",
    "sinks": "alerts.sinks",
    "passthrough": "passthrough",
    "plans": "plans",
    "assignments": "tenants.plan",
    "stripe": "stripe",
    "invoicing": "invoices",
    "webhooks": "webhooks",
    "jobs": "jobs",
    "retention": "retention",
    "cache": "cache",
    "admin_keys": "admin.keys",
    "server.metrics_tenants": "server.metrics_tenants",
    "server.max_body_mb": "server.max_body_mb",
    "server.max_connections": "server.max_connections",
    "server.max_connections_per_ip": "server.max_connections_per_ip",
    "server.memory_limit_mb": "server.memory_limit_mb",
    "server.on_disconnect": "server.on_disconnect",
    "server.keepalive_s": "server.keepalive_s",
    "server.keepalive_after_s": "server.keepalive_after_s",
    "server.max_drains": "server.max_drains",
    "server.max_drain_s": "server.max_drain_s",
    "server.watch_config": "server.watch_config",
    "server.deadline_s": "server.deadline_s",
    "server.explain": "server.explain",
    "server.tls": "server.tls",
    "redis.on_outage": "redis.on_outage",
    "redis.outage_share_ppm": "redis.outage_share",
    "metering.consumer_concurrency": "metering.consumer_concurrency",
    "metering.idempotency_window_hours": "metering.idempotency_window_hours",
    "metering.event_age_max_hours": "metering.event_age_max_hours",
    "metering.reconciliation_schedule": "metering.reconciliation_schedule",
    "metering.backlog_high_water": "metering.backlog_high_water",
    "metering.on_backlog": "metering.on_backlog",
}
"""Field of the settings -> what it is called in the file."""

AFTER_A_RESTART: Mapping[str, str] = {
    "data_dir": "data_dir",
    "ledger_url": "ledger.url",
    "server.host": "server.host",
    "server.port": "server.port",
    "server.workers": "server.workers",
    "server.metrics_host": "server.metrics_host",
    "server.metrics_port": "server.metrics_port",
    "redis.url": "redis.url",
    "redis.prefix": "redis.prefix",
    "redis.shards": "redis.shards",
    "redis.timeout_ms": "redis.timeout_ms",
    "cache_url": "cache.url",
    "telemetry": "telemetry",
    "admin": "admin",
    "metering.queue": "metering.queue",
    "metering.spool": "metering.spool",
}
"""The same of what was opened, laid out or shared out when the processes began."""

GIVEN: frozenset[str] = frozenset({"source", "settles"})
"""Not from the file: where it lies, and what the command line said. They stay."""

NESTED = ("server", "redis", "metering")

_BY_NAME = frozenset({"providers", "models", "tenants"})
"""Mappings whose entries are told one by one."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """What to go on with. `applied` and `waiting` are names of keys, as the file writes them."""

    settings: Settings
    applied: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


def replaced(running: Settings, fresh: Settings) -> Replacement:
    """`fresh` as far as a running process can take it up."""
    waiting = [
        name for field, name in AFTER_A_RESTART.items() if _at(running, field) != _at(fresh, field)
    ]
    kept: dict[str, Any] = {name: getattr(running, name) for name in GIVEN}
    for field in AFTER_A_RESTART:
        if "." not in field:
            kept[field] = getattr(running, field)
    for part in NESTED:
        own = {
            field.partition(".")[2]: _at(running, field)
            for field in AFTER_A_RESTART
            if field.startswith(f"{part}.")
        }
        kept[part] = replace(getattr(fresh, part), **own)
    if (running.server.tls is None) != (fresh.server.tls is None):  # sockets speak it or not
        kept["server"] = replace(kept["server"], tls=running.server.tls)
        waiting.append("server.tls")
    settings = replace(fresh, **kept)
    settings, simulated = _without_simulator(running, settings)
    return Replacement(settings, tuple(_applied(running, settings)), (*waiting, *simulated))


def _applied(running: Settings, settings: Settings) -> Iterator[str]:
    for field, name in AT_ONCE.items():
        before, after = _at(running, field), _at(settings, field)
        if field in _BY_NAME:
            yield from (f"{name}.{each}" for each in _changed(before, after))
        elif field == "prices":
            if _versions(running) != _versions(settings):
                yield name
        elif before != after:
            yield name


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = {**before, **after}
    return [each for each in names if before.get(each) != after.get(each)]


def _versions(settings: Settings) -> tuple[object, ...]:
    """What tells price books apart; their rules may be written in another way and mean the same."""
    return tuple(
        (each.effective_from_ns, each.cost_version, each.sell_version)
        for each in settings.prices.eras
    )


def _without_simulator(running: Settings, settings: Settings) -> tuple[Settings, list[str]]:
    """Our simulator is a process, started with the others where a provider needs it."""
    missing = [name for name, each in settings.providers.items() if is_simulated(each)]
    if not missing:
        return settings, []
    why = "the simulator starts with the next start of `weir serve`"
    providers = {
        name: replace(each, unavailable=why) if name in missing else each
        for name, each in settings.providers.items()
    }
    return replace(settings, providers=providers), [f"providers.{name}" for name in missing]


def is_simulated(provider: Provider) -> bool:
    """Whether it is sent to our own simulator, whose address is not filled in yet."""
    return provider.type == "simulator" and not provider.base_url


def _at(settings: Settings, field: str) -> Any:
    part, _, name = field.partition(".")
    found = getattr(settings, part)
    return getattr(found, name) if name else found


def every_field(settings: Settings) -> Iterator[str]:
    """The names of all fields, those of nested parts with a dot."""
    for each in fields(settings):
        if each.name in NESTED:
            yield from (f"{each.name}.{part.name}" for part in fields(getattr(settings, each.name)))
        else:
            yield each.name
