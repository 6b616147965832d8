"""Every metric there is, in the order in which `docs/metrics.md` explains them. Pure."""

from __future__ import annotations

from proxy.metrics import Kind, Metric

LATENCY_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""From a cached answer to the longest that a provider is given by default."""

REDIS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
"""`redis.timeout_ms` is 250."""

SPEED = (5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)
"""Tokens per second: from a model on somebody's desk to the fastest that is sold."""

BATCH_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"weir_{name}_total", Kind.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"weir_{name}", Kind.GAUGE, text, labels)


REQUESTS = _counter("requests", "Answers to requests, by class of status.", "status")
REFUSALS = _counter("refusals", "Requests that got an error of ours, by its code.", "code")
DENIALS = _counter(
    "cap_denials",
    "Requests that a cap refused, or a flag: by the kind of scope and window and what ran out.",
    "scope",
    "window",
    "dimension",
)
SHADOW_DENIALS = _counter(
    "cap_shadow_denials",
    "Requests that a cap in mode shadow would have refused, by the kind of its scope and window.",
    "scope",
    "window",
)
EXCHANGES = _counter(
    "exchanges", "Requests that were sent upstream, by how they ended.", "model", "outcome"
)
DEGRADATIONS = _counter(
    "degradations", "Exchanges served by something cheaper near a cap.", "model", "reason"
)
SHADOW_DEGRADATIONS = _counter(
    "shadow_degradations", "Exchanges that steps in shadow would have degraded.", "model"
)
DEGRADATIONS_SKIPPED = _counter(
    "degradations_skipped", "Exchanges for which a step named a model that cannot serve.", "model"
)
MARGINS = _counter(
    "margin_decisions",
    "Requests under the margin threshold, by what was done, or in shadow would have been.",
    "model",
    "verdict",
)
METERED = _counter("meter_decisions", "Answers of /v1/meter, by decision.", "decision")
SLA = _counter("sla_answers", "Served answers that had a latency target.", "model", "met")
ATTEMPTS = _counter("attempts", "Requests to upstreams, by how they ended.", "upstream", "outcome")
FALLBACKS = _counter(
    "fallbacks", "Attempts made because the one before failed.", "upstream", "reason"
)
RETRIES = _counter(
    "retries", "Attempts at the upstream that failed before, by how it did.", "upstream", "reason"
)
RETRIES_UNPAID = _counter(
    "retries_unpaid", "Attempts that were not made because a budget was used up.", "upstream"
)
DEADLINES = _counter("deadlines", "Exchanges that were ended at their deadline.", "model")
CLAMPED = _counter("clamped", "Answers in one piece that were cut to what is affordable.", "model")
OVERRUN = _counter(
    "overrun_nano_usd", "What exchanges came to beyond what they held, in nano-USD.", "model"
)
TOKENS = _counter("tokens", "Billed tokens, by class.", "upstream", "class")
SELL = _counter("sell_nano_usd", "What tenants pay, in nano-USD.", "model")
COST = _counter("cost_nano_usd", "What providers charge, in nano-USD.", "upstream")
TENANT_EXCHANGES = _counter("tenant_exchanges", "Exchanges of a tenant.", "tenant")
TENANT_TOKENS = _counter("tenant_tokens", "Billed tokens of a tenant.", "tenant")
TENANT_SELL = _counter("tenant_sell_nano_usd", "What a tenant pays, in nano-USD.", "tenant")
TENANT_REMAINING = _gauge(
    "tenant_cap_remaining_nano_usd",
    "What was left of a tenant's money cap at its last admission by this process, in nano-USD.",
    "tenant",
    "window",
)
DURATION = Metric(
    "weir_exchange_seconds",
    Kind.HISTOGRAM,
    "From the request's arrival to the end of its last attempt.",
    ("model",),
    LATENCY_S,
)
TTFT = Metric(
    "weir_first_byte_seconds",
    Kind.HISTOGRAM,
    "From sending to an upstream to its first byte for the client.",
    ("upstream",),
    LATENCY_S,
)
CACHE_ANSWERS = _counter(
    "cache_answers", "Requests whose answers may be kept, by what came of that.", "result"
)
CACHE_STORED = _counter("cache_stored", "Answers to be kept, by what came of that.", "result")
CACHE_STORED_BYTES = _counter("cache_stored_bytes", "What kept answers take in Redis.")
CACHE_BYTES = _gauge(
    "cache_bytes", "What answers that are kept are counted with, by kind.", "kind", "shard"
)
CACHE_EVICTED = _counter("cache_evicted", "Kept answers that made room for newer ones.")
REPEATS_ASKED = _counter(
    "idempotency_keys", "Requests with a key of their client's, by what came of that.", "result"
)
OPEN_EXCHANGES = _gauge("open_exchanges", "Exchanges under way.")
OPEN_CONNECTIONS = _gauge("open_connections", "Connections of clients.")
WRITE_STALLS = _counter("write_stalls", "Clients that took nothing for too long and were dropped.")

REDIS_UP = _gauge("redis_up", "1 while Redis answers.")
REDIS_CALLS = _counter("redis_calls", "Calls on the request path.", "verb", "result")
REDIS_SECONDS = Metric(
    "weir_redis_call_seconds",
    Kind.HISTOGRAM,
    "How long calls on the request path took.",
    ("verb",),
    REDIS_S,
)
REDIS_GENERATIONS = _counter("redis_generations", "Times that another Redis server was found.")
UPSTREAM_OPEN = _gauge("upstream_open", "1 while an upstream is passed over.", "upstream")
UPSTREAM_IN_FLIGHT = _gauge("upstream_in_flight", "Requests under way there.", "upstream")
UPSTREAM_SUCCESS = _gauge(
    "upstream_success_ratio",
    "Of the last hour's answers and failures the share of answers, as all processes saw it.",
    "upstream",
)
UPSTREAM_DRIFT = _gauge(
    "upstream_cost_drift_ratio",
    "By how much the provider's count costs more than ours over the last hour, of all processes.",
    "upstream",
)
UPSTREAM_SECONDS = Metric(
    "weir_upstream_seconds",
    Kind.HISTOGRAM,
    "From sending to an upstream to the end of an answer that was served.",
    ("upstream",),
    LATENCY_S,
)
UPSTREAM_SPEED = Metric(
    "weir_upstream_tokens_per_second",
    Kind.HISTOGRAM,
    "Tokens of output per second of streams, after their first event.",
    ("upstream",),
    SPEED,
)
PROBES = _counter("probes", "Probes of providers, by what they found.", "provider", "result")
OUTAGE = _gauge("outage", "1 while requests are admitted or refused without Redis.")
OUTAGE_ADMITTED = _counter("outage_admitted", "Requests admitted without Redis.")
OUTAGE_REFUSED = _counter("outage_refused", "Requests refused because Redis was away.")
SPOOL_RECORDS = _gauge("spool_records", "Commits on disk that Redis does not have yet.")
SPOOL_BYTES = _gauge("spool_bytes", "What these take.")
SPOOL_AGE = _gauge("spool_oldest_seconds", "How long the oldest of these has waited.")
SPOOL_REPLAYED = _counter("spool_replayed_records", "Spooled commits that Redis has taken.")
READY = _gauge("ready", "1 while this proxy can check spend.")

STREAM_ENTRIES = _gauge("stream_entries", "Usage events in Redis, settled or not, all shards.")
STREAM_PENDING = _gauge("stream_pending_entries", "Of these, handed to a worker and not settled.")
UNSETTLED = _gauge(
    "stream_unsettled_entries", "Usage events not settled: what the high-water mark is held to."
)
BACKLOG_REFUSING = _gauge("backlog_refusing", "1 while requests are refused over the backlog.")
STREAM_AGE = _gauge("stream_oldest_unsettled_seconds", "Age of the oldest event not settled.")
SETTLED = _counter("settled_events", "Usage events in the ledger.")
REPEATS = _counter("settled_repeats", "Usage events that the ledger had already.")
CONFLICTS = _counter("settlement_conflicts", "Usage events whose id the ledger has otherwise.")
DEAD_LETTERS = _counter("settlement_dead_letters", "Entries that are no usage event.")
DIFFERENCES = _counter("settlement_differences", "Events that are rated otherwise than billed.")
BATCH_SECONDS = Metric(
    "weir_settlement_batch_seconds",
    Kind.HISTOGRAM,
    "From rating a batch to its acknowledgement.",
    (),
    BATCH_S,
)
RECOVERED = _counter("recovered_exchanges", "Exchanges recorded after their process had died.")
REPAIRED = _counter("windows_repaired_buckets", "Buckets in Redis set to what the ledger says.")
ALERTS = _counter("alerts", "Alerts that have gone out, by kind.", "kind")
REVIEW_STEPS = _counter(
    "review_steps", "Steps taken over unusual spend; in mode shadow, noted only.", "step", "mode"
)
STRIPE_REQUESTS = _counter(
    "stripe_requests", "Requests to Stripe's meters, by what became of them.", "outcome"
)
STRIPE_WAITING = _gauge("stripe_waiting_entries", "Hours of meters that Stripe lacks something of.")
STRIPE_HELD = _gauge("stripe_held_entries", "Of meters, hours that wait for a person.")
PAYMENT_STEPS = _counter("payment_steps", "Steps of payments that were booked.", "step")
WEBHOOK_MESSAGES = _counter(
    "webhook_messages",
    "Tries to send messages of webhooks, by what became of them.",
    "endpoint",
    "outcome",
)
CREDIT_LEFT = _gauge("credit_left_nano_usd", "What is left of all tenants' credit.")
JOB_RUNS = _counter("job_runs", "Runs of jobs, by what became of them.", "job", "outcome")
SETTLEMENT_TROUBLE = _counter("settlement_retries", "Turns given up over Redis or the database.")
TELEMETRY_SPANS = _counter("telemetry_spans", "Spans for a collector, by result.", "result")

CONFIG_GENERATION = _gauge(
    "config_generation", "Which settings a process goes by, counted from its start on."
)
CONFIG_HASH = _gauge("config_hash", "The configuration in use: 48 bits of the hash of its file.")
CONFIG_LOADED = _gauge("config_loaded_timestamp_seconds", "When these settings were taken up.")
CONFIG_FAILED = _gauge(
    "config_reload_failed", "1 while the file is not what is in use: faulty, or not taken up."
)
CONFIG_RELOADS = _counter("config_reloads", "Times the file was read again, by result.", "result")
REGISTRY_FAILED = _gauge(
    "registry_failed", "1 while the tenants that were published last cannot be used here."
)
REGISTRY_LEFT_OUT = _gauge(
    "registry_tenants_failed", "Tenants of the registry that have a fault and are not served."
)
REGISTRY_RELOADS = _counter(
    "registry_reloads", "Times the registry was taken up, by result.", "result"
)
RESTARTS = _counter("child_restarts", "Children started again after they had ended.", "child")
STUCK = _counter("child_stuck", "Children killed because they stood still.", "child")
REPORT_AGE = _gauge("process_report_age_seconds", "Since a process last told its numbers.")
LOOP_LAG = _gauge("event_loop_lag_seconds", "How late a timer was, the worst since the last look.")
MEMORY = _gauge("process_resident_memory_bytes", "Memory in use, shared pages included.")
OPEN_FDS = _gauge("process_open_fds", "Open files and connections.")
CPU_SECONDS = _gauge("process_cpu_seconds", "CPU time of the process since it started.")
BUILD = Metric("weir_build_info", Kind.GAUGE, "1; what runs here.", ("version", "python"), ())

CATALOGUE: tuple[Metric, ...] = tuple(
    each for each in list(globals().values()) if isinstance(each, Metric)
)
