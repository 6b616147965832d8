"""The shape of the configuration file: one frozen dataclass per section, and nothing else.

Rules: every class forbids unknown keys; a number written in the file is never text and text is
never a number, but what a variable gave is read as the type of its field; the string under each
field is its description in the JSON Schema. Defaults are those of the rooms (`proxy.settings`,
`metering`). What spans sections is checked in `proxy.config_build`. Limits and tenants have a file
of their own, `proxy.config_limits_shape`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from proxy.config_admin_shape import AdminShape
from proxy.config_anomalies_shape import USUAL, AnomaliesShape
from proxy.config_cache_shape import NO_CACHE, CacheShape
from proxy.config_cost_shape import NO_SLA, CostToServeShape, SlaShape
from proxy.config_invoices_shape import NO_INVOICES, InvoicesShape
from proxy.config_jobs_shape import JobShape, RetentionShape
from proxy.config_limits_shape import NO_LIMITS, LimitsShape, TenantShape
from proxy.config_models_shape import ModelShape
from proxy.config_passthrough_shape import PassthroughShape
from proxy.config_plans_shape import NO_CREDITS, CreditsShape, MeterShape, PlanShape
from proxy.config_prices_shape import NO_PRICES, PricingShape
from proxy.config_reconcile_shape import ReconcileShape
from proxy.config_stripe_shape import StripeShape
from proxy.config_telemetry_shape import TelemetryShape
from proxy.config_values import (
    FORBID,
    Count,
    Flag,
    Port,
    Seconds,
    SecondsOrNone,
    Share,
    Text,
)
from proxy.config_values import text as _text
from proxy.config_values import whole as _whole
from proxy.config_webhooks_shape import WebhookShape


@dataclass(frozen=True, kw_only=True)
class TlsShape:
    """What the proxy shows its clients, so that they speak HTTPS to it."""

    __pydantic_config__ = FORBID

    cert_file: Text
    """Certificate and its chain, PEM; relative to the file's directory."""
    key_file: Text
    """Its private key, PEM, not encrypted; relative to the file's directory."""
    min_version: Annotated[Literal["TLSv1.2", "TLSv1.3"], BeforeValidator(_text)] = "TLSv1.2"
    """Oldest version of TLS that clients may speak."""


@dataclass(frozen=True, kw_only=True)
class ServerShape:
    """Where and how the proxy listens."""

    __pydantic_config__ = FORBID

    host: Text = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for every interface."""
    port: Port = 8080
    """Port to listen on; 0 picks a free one."""
    workers: Annotated[int, Field(ge=1, le=256), BeforeValidator(_whole)] = 1
    """Proxy processes that share the port."""
    metrics_host: Text = "127.0.0.1"
    """Address of the metrics port; whoever reaches it may read it."""
    metrics_port: Port | None = None
    """Port of `/metrics` and of `/readyz` with details; 0 or nothing for none."""
    metrics_tenants: Flag = True
    """Whether metrics name tenants and what they spend."""
    explain: Flag = False
    """Whether clients may ask with `x-weir-explain` why an upstream was chosen."""
    max_body_mb: Annotated[int, Field(ge=1, le=1024), BeforeValidator(_whole)] = 32
    """Largest request body, in MiB."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_whole)] = 10_000
    """Connections that each proxy process keeps open; more are refused with 503."""
    max_connections_per_ip: Count | None = None
    """Of those, how many may come from one address; no bound if left out."""
    memory_limit_mb: Annotated[int, Field(ge=64), BeforeValidator(_whole)] | None = None
    """Memory of each proxy process from which on exchanges are refused with 503, in MiB."""
    on_disconnect: Annotated[Literal["abort", "drain"], BeforeValidator(_text)] = "abort"
    """When the client leaves: stop the upstream, or read its answer to the end."""
    keepalive_s: SecondsOrNone = Decimal(15)
    """Silence of a stream after which its client is sent a comment, in seconds; 0 for none."""
    keepalive_after_s: Seconds = Decimal(10)
    """How long nothing at all is sent, so that another upstream may still answer instead."""
    deadline_s: Seconds | None = None
    """How long a request may take in all, in seconds; no bound if left out."""
    max_drains: Annotated[int, Field(ge=0, le=100_000), BeforeValidator(_whole)] = 100
    """Answers per process that `drain` reads on for nobody; beyond them it is `abort`."""
    max_drain_s: Seconds = Decimal(300)
    """Longest that `drain` reads on after the client has left, in seconds."""
    watch_config: Flag = True
    """Whether `weir serve` takes up the file by itself when it changes."""
    tls: TlsShape | None = None
    """HTTPS instead of HTTP; plain HTTP if left out."""


@dataclass(frozen=True, kw_only=True)
class RedisShape:
    """Where caps are kept and usage events queue up."""

    __pydantic_config__ = FORBID

    url: Text | None = None
    """`redis://`, `rediss://`, `unix://`, `redis+cluster://` or `redis+sentinel://` (see
    [Redis](redis.md)); without it an embedded server is started."""
    prefix: Text = "weir"
    """Head of every key."""
    shards: Annotated[int, Field(ge=1, le=16_384), BeforeValidator(_whole)] = 16
    """Hash slots that tenants are spread over; never changes once there is data."""
    timeout_ms: Count = 250
    """Longest that a request waits for Redis, each time, in milliseconds."""
    on_outage: Annotated[Literal["local", "closed", "open"], BeforeValidator(_text)] = "local"
    """While Redis is away: a local share of each cap, refuse, or admit unchecked."""
    outage_share: Share = Decimal("0.1")
    """With `local`: share of what is left of a cap that this machine may spend in an outage."""


@dataclass(frozen=True, kw_only=True)
class LedgerShape:
    """The database of events, charges and invoices."""

    __pydantic_config__ = FORBID

    url: Text | None = None
    """SQLAlchemy URL; without it SQLite in `data_dir`."""


@dataclass(frozen=True, kw_only=True)
class ProbeShape:
    """How an account is asked whether it is there."""

    __pydantic_config__ = FORBID

    every_s: Annotated[Seconds, Field(ge=1)] = Decimal(30)
    """How often, in seconds, at least 1; by one process of all."""
    timeout_s: Annotated[Seconds, Field(le=60)] = Decimal(5)
    """How long it may take to answer, in seconds, at most 60."""
    path: Text | None = None
    """What to GET, after `base_url`, as `/models`; the vendor's list of models if left out."""


@dataclass(frozen=True, kw_only=True)
class ProviderShape:
    """An account at a vendor."""

    __pydantic_config__ = FORBID

    type: Text
    """Whose API it speaks: one of the [vendors](providers.md)."""
    base_url: Text | None = None
    """Address up to and including `/v1`; the vendor's own if left out."""
    api_key: Text | None = None
    """Credential, as `${NAME}`; while NAME is unset this provider's routes answer 503."""
    timeout_s: Seconds = Decimal(300)
    """Longest silence of the upstream, in seconds."""
    connect_timeout_s: Seconds = Decimal(5)
    """Longest wait for a connection, in seconds."""
    first_event_timeout_s: Seconds | None = None
    """Longest wait for the first event of a stream, in seconds; `timeout_s` if left out."""
    stall_timeout_s: Seconds | None = None
    """Longest time between two events of a stream, in seconds; comments do not count."""
    stream_usage: Annotated[Literal["inject", "never"], BeforeValidator(_text)] = "inject"
    """Whether streams are asked for their usage; `never` for servers that refuse the field."""
    max_answer_s: Seconds = Decimal(3600)
    """Longest that one answer may take, streamed or not, in seconds."""
    max_answer_mb: Annotated[int, Field(ge=1, le=4096), BeforeValidator(_whole)] = 256
    """Largest answer, in MiB; one that is not streamed is held in memory and at most 64."""
    ca_file: Text | None = None
    """Certificates (PEM) that may vouch for it, instead of the system's."""
    options: Mapping[Text, Text] = field(default_factory=dict)
    """What its vendor wants to know besides, by name: see [providers](providers.md)."""
    probe: ProbeShape | None = None
    """Asks for its health beside requests: see [upstreams](upstreams.md#probes)."""
    reconcile: ReconcileShape | None = None
    """Compares the ledger with its usage and costs: see [reconciliation](reconciliation.md)."""
    drop_unsupported: Flag = False
    """Whether what cannot be said in its wire format is left out of requests instead of refused."""


@dataclass(frozen=True, kw_only=True)
class EgressShape:
    """How upstreams are reached from here."""

    __pydantic_config__ = FORBID

    proxy: Text | None = None
    """`http://[user:password@]host:port` of a proxy to tunnel through (CONNECT); empty for none."""
    ca_file: Text | None = None
    """Certificates (PEM) that may vouch for upstreams, instead of the system's."""
    no_proxy: tuple[Text, ...] = ()
    """Hosts that are reached directly: a name (with its subdomains), an address or a network."""


@dataclass(frozen=True, kw_only=True)
class MeteringShape:
    """How usage events travel to the ledger."""

    __pydantic_config__ = FORBID

    queue: Text = "usage"
    """Name of the Redis streams."""
    consumer_concurrency: Annotated[int, Field(ge=1, le=1024), BeforeValidator(_whole)] = 8
    """Batches the settlement worker works on at once."""
    idempotency_window_hours: Annotated[int, Field(ge=1, le=744), BeforeValidator(_whole)] = 24
    """How long a repeated event, or Idempotency-Key, is recognised as one; at most 31 days."""
    event_age_max_hours: Annotated[int, Field(ge=1, le=8784), BeforeValidator(_whole)] = 168
    """How old an event from outside may be."""
    reconciliation_schedule: Text | None = None
    """When usage is compared with the providers' exports: five cron fields, UTC. The same as a
    [job](jobs.md) `reconcile`."""
    spool: Annotated[Literal["outage", "always"], BeforeValidator(_text)] = "outage"
    """When events are also written to `data_dir`."""
    backlog_high_water: Count = 1_000_000
    """Events that may wait in Redis for the settlement worker, over all shards."""
    on_backlog: Annotated[Literal["refuse", "alert"], BeforeValidator(_text)] = "refuse"
    """At the high-water mark, or with Redis nine tenths full: refuse requests, or only say so."""


@dataclass(frozen=True, kw_only=True)
class SinkShape:
    """One place that alerts go to."""

    __pydantic_config__ = FORBID

    type: Text
    """`log` (one line each in the worker's log) or `webhook` (a signed POST request)."""
    url: Text | None = None
    """Of a webhook: where to, `https://...`; a private address is allowed."""
    secret: Text | None = None
    """Of a webhook: what requests are signed with, at least 16 characters; write `${NAME}`."""
    kinds: tuple[Text, ...] | None = None
    """Only these [kinds of alerts](alerts.md); all if left out."""
    timeout_s: Seconds = Decimal(5)
    """Of a webhook: longest wait for its answer, in seconds, at most 60."""


@dataclass(frozen=True, kw_only=True)
class AlertsShape:
    """What a person should look at, and who is told."""

    __pydantic_config__ = FORBID

    sinks: tuple[SinkShape, ...] | None = None
    """Where alerts go, each for itself; the worker's log if left out."""


NO_ALERTS = AlertsShape()


@dataclass(frozen=True, kw_only=True)
class FileShape:
    """The whole file. Every section may be left out."""

    __pydantic_config__ = FORBID

    server: ServerShape = ServerShape()
    """Where and how the proxy listens."""
    data_dir: Text = ".weir"
    """Where state is kept; relative to the file's directory."""
    redis: RedisShape = RedisShape()
    """Where caps are kept and usage events queue up."""
    ledger: LedgerShape = LedgerShape()
    """The database of events, charges and invoices."""
    providers: Mapping[Text, ProviderShape] = field(default_factory=dict)
    """Accounts at vendors, by a name of your choice."""
    egress: EgressShape = EgressShape()
    """How upstreams are reached from here."""
    models: Mapping[Text, ModelShape] = field(default_factory=dict)
    """Routes: the models that clients may ask for, by name."""
    pricing: PricingShape = NO_PRICES
    """What models cost us and what tenants pay."""
    meters: tuple[MeterShape, ...] = ()
    """Numbers that plans charge by, beside those that there are."""
    plans: tuple[PlanShape, ...] = ()
    """What tenants pay for a month, instead of the prices of single requests."""
    credits: CreditsShape = NO_CREDITS
    """How many compute credits a unit is."""
    limits: LimitsShape = NO_LIMITS
    """Limits of every tenant that does not set its own."""
    cost_to_serve: CostToServeShape | None = None
    """What a request costs to serve, and what happens when its margin is too small."""
    sla: SlaShape = NO_SLA
    """What a tenant gets for answers that came later than their target."""
    tenants: tuple[TenantShape, ...] = ()
    """Who may use the proxy, and with which keys."""
    passthrough: PassthroughShape | None = None
    """Every other path of OpenAI's API, relayed as it is; none of them without the section."""
    anomalies: AnomaliesShape = USUAL
    """Watch over how fast tenants and keys spend."""
    metering: MeteringShape = MeteringShape()
    """How usage events travel to the ledger."""
    cache: CacheShape = NO_CACHE
    """Answers that are kept, to be given again to the same question."""
    alerts: AlertsShape = NO_ALERTS
    """What a person should look at, and who is told."""
    invoices: InvoicesShape = NO_INVOICES
    """What invoices say beside amounts."""
    jobs: tuple[JobShape, ...] = ()
    """What the worker [does by the clock](jobs.md)."""
    retention: RetentionShape | None = None
    """How long the ledger keeps events as they came; for ever without the section."""
    telemetry: TelemetryShape | None = None
    """Traces for an OpenTelemetry collector; none without the section."""
    admin: AdminShape | None = None
    """The [admin API](admin-api.md) and the dashboard; none without the section."""
    stripe: StripeShape | None = None
    """Usage that is told to Stripe's meters; none without the section."""
    webhooks: tuple[WebhookShape, ...] = ()
    """Other systems that are told of usage, closed months and alerts."""


FILE: TypeAdapter[FileShape] = TypeAdapter(FileShape)
