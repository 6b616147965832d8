"""The settings of a running process, decoded and checked: what `config` makes from the file.

Frozen values only. Rooms that have settings of their own (caps, prices, routes, tenants) keep
them there; this module holds those of the door and ties all of them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from metering.alert_sinks import DEFAULT_SINKS, SinkSettings
from metering.caps import ScopeKind
from metering.invoice_settings import UNNAMED, Invoicing
from metering.job_settings import JobSettings, Retention
from metering.plans import Assignment, Plan
from metering.prices import PriceBook
from metering.redis_keys import RedisKeys
from metering.stripe_settings import StripeSettings
from metering.tenants import Tenant
from metering.tolerances import EVERYBODY_ALIKE, Tolerances
from metering.webhook_settings import WebhookEndpoint
from proxy.cache_rules import NOTHING_KEPT, CacheSettings
from proxy.passthrough_rules import Passthrough
from routing.cost_to_serve import NOT_JUDGED, CostRules
from routing.upstreams import Model


class Secret:
    """A credential that prints as `***`; only `reveal` gives it out, to whoever sends it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The credential itself; for the header that carries it and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class Probe:
    """How a provider is asked whether it is there: `path` comes after its `base_url`."""

    path: str
    every_s: float = 30.0
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Reconcile:
    """How an account is compared with what its provider says.

    `unset` names the variable of the admin key when it is not set.
    """

    admin_key: Secret | None = None
    unset: str | None = None
    url: str = ""
    project_ids: frozenset[str] = frozenset()
    api_key_ids: frozenset[str] = frozenset()
    models: Mapping[str, str] = field(default_factory=dict, hash=False)
    alert_ppm: int = 150_000


@dataclass(frozen=True, slots=True)
class Provider:
    """A configured account at a vendor: where to send, with which credential.

    `base_url` ends without a slash; the simulator's is filled in when it has its port.
    `unavailable` says in words why it cannot be called (its key's variable is not set).
    """

    name: str
    type: str
    base_url: str
    api_key: Secret | None = None
    timeout_s: float = 300.0
    connect_timeout_s: float = 5.0
    stream_usage: Literal["inject", "never"] = "inject"
    first_event_timeout_s: float | None = None
    """How long a stream may take to its first event; None for as long as it is not silent."""
    stall_timeout_s: float | None = None
    """How long a stream may go without an event once it has begun; None for `timeout_s`, which
    counts every byte, also those of comments."""
    max_answer_s: float = 3600.0
    max_answer_mb: int = 256
    ca_file: Path | None = None
    unavailable: str | None = None
    options: Mapping[str, str | Secret] = field(default_factory=dict, hash=False)
    """What its vendor wants to know besides: see `OPTIONS` of its module."""
    probe: Probe | None = None
    """None where nobody asks for its health beside requests."""
    reconcile: Reconcile | None = field(default=None, hash=False)
    """None where what it says of our usage is not asked for."""
    drop_unsupported: bool = False
    """Whether what a wire format cannot carry is left out instead of refused."""

    @property
    def max_answer_bytes(self) -> int:
        """`max_answer_mb` in bytes."""
        return self.max_answer_mb * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """An HTTP proxy that is asked to CONNECT; `authorization` is the header it wants, if any."""

    host: str
    port: int
    authorization: Secret | None = None


@dataclass(frozen=True, slots=True)
class Egress:
    """How upstreams are reached: `proxy.egress` has the rules.

    `ca_file` replaces the system's certificates, `no_proxy` are names, addresses and networks.
    """

    proxy: ForwardProxy | None = None
    ca_file: Path | None = None
    no_proxy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tls:
    """What the proxy shows its clients; the files were read once when the settings were checked."""

    cert_file: Path
    key_file: Path
    min_version: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"


@dataclass(frozen=True, slots=True)
class Server:
    """Where and how we listen."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    """None or 0 for no metrics at all."""
    metrics_tenants: bool = True
    explain: bool = False
    """Whether clients may ask why an upstream was chosen: `x-weir-explain`."""
    max_body_mb: int = 32
    max_connections: int = 10_000
    max_connections_per_ip: int | None = None
    memory_limit_mb: int | None = None
    on_disconnect: Literal["abort", "drain"] = "abort"
    keepalive_s: float = 15.0
    """How long a stream may be silent before its client is told that it goes on; 0 for never."""
    keepalive_after_s: float = 10.0
    """How long nothing is said at all, so that another upstream may still answer."""
    deadline_s: float | None = None
    """How long a request may take in all, unless its model says otherwise; None for no bound."""
    max_drains: int = 100
    max_drain_s: float = 300.0
    watch_config: bool = True
    """Whether a change of the file is taken up without being asked for."""
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where traces and OpenTelemetry's metrics go: a collector's address, without a slash at its
    end."""

    otlp: str
    headers: Mapping[str, Secret] = field(default_factory=dict, hash=False)
    resource: Mapping[str, str] = field(default_factory=dict, hash=False)
    sample_ppm: int = 1_000_000
    """Of requests whose client does not say, how many are recorded."""


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A key of the admin API, by its hash, and the role that it has."""

    id: str
    sha256: str
    role: str
    """`viewer`, `billing` or `admin`."""


@dataclass(frozen=True, slots=True)
class AdminPort:
    """Where the console listens: the admin API and the dashboard."""

    host: str = "127.0.0.1"
    port: int = 8081


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """`url` is None for the embedded server."""

    url: Secret | None = None
    prefix: str = "weir"
    shards: int = 16
    timeout_ms: int = 250
    on_outage: Literal["local", "closed", "open"] = "local"
    outage_share_ppm: int = 100_000
    """Of what is left of a cap, what this machine's processes may spend without Redis."""


@dataclass(frozen=True, slots=True)
class Metering:
    """How usage events travel to the ledger."""

    queue: str = "usage"
    consumer_concurrency: int = 8
    idempotency_window_hours: int = 24
    event_age_max_hours: int = 168
    reconciliation_schedule: str | None = None
    spool: Literal["outage", "always"] = "outage"
    backlog_high_water: int = 1_000_000
    on_backlog: Literal["refuse", "alert"] = "refuse"


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A key that `serve` makes itself at its first start (`mint: true`), for trying things out."""

    tenant: str
    key_id: str
    project: str
    pins: Mapping[ScopeKind, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """Everything a process needs to know; made by `proxy.config.load`."""

    source: Path | None
    server: Server
    data_dir: Path
    redis: RedisSettings
    ledger_url: str
    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    prices: PriceBook
    tenants: Mapping[str, Tenant]
    metering: Metering
    default_output_tokens: int = 4096
    default_tool_uses: int = 10
    clamp_max_tokens: bool = True
    """Whether answers that are not streamed may be cut to what is affordable."""
    min_output_tokens: int = 64
    """Nobody is served less output than this because of a cap."""
    stream_slice_tokens: int = 256
    """By so much the hold of a stream grows, which is also when its flags are looked at."""
    on_exhausted: Literal["soft", "error"] = "soft"
    """How a stream ends whose hold cannot grow."""
    cost_rules: CostRules = NOT_JUDGED
    """`cost_to_serve`; off without the section."""
    sla_credit_ppm: int = 0
    """What an answer costs less that missed its target."""
    minted_keys: tuple[MintedKey, ...] = field(default=())
    egress: Egress = Egress()
    tolerances: Tolerances = EVERYBODY_ALIKE
    sinks: tuple[SinkSettings, ...] = DEFAULT_SINKS
    """Where the worker's alerts go."""
    passthrough: Passthrough | None = None
    """What else of OpenAI's API is relayed; nothing without the section."""
    cache: CacheSettings = NOTHING_KEPT
    """Whose answers are kept, and for how long."""
    cache_url: Secret | None = None
    """The Redis they are kept in; None for that of the caps."""
    plans: tuple[Plan, ...] = ()
    """Every version of every plan in the file."""
    assignments: Mapping[str, tuple[Assignment, ...]] = field(default_factory=dict)
    """By tenant, which plan it has from when on."""
    stripe: StripeSettings | None = None
    """What the worker tells Stripe; nothing without the section."""
    invoicing: Invoicing = UNNAMED
    """What invoices say beside amounts."""
    webhooks: tuple[WebhookEndpoint, ...] = ()
    """Which other systems the worker tells what."""
    jobs: tuple[JobSettings, ...] = ()
    """What the worker does by the clock."""
    retention: Retention | None = None
    """How long the ledger keeps what events came as; for ever without the section."""
    telemetry: Telemetry | None = None
    """Where traces go; nothing is traced without the section."""
    admin: AdminPort | None = None
    """Where the console listens; there is none without the section."""
    admin_keys: tuple[AdminKey, ...] = ()
    """Who may use it; where the file has none, the one that `serve` makes is among them."""
    registry: str = ""
    """The version of the registry that `tenants` have in them; empty where there is none."""
    settles: bool = True
    """False when `serve` starts no settlement worker (`--no-worker`)."""


def redis_keys(settings: Settings) -> RedisKeys:
    """The key names of these settings."""
    redis = settings.redis
    return RedisKeys(prefix=redis.prefix, shards=redis.shards, queue=settings.metering.queue)
