"""The worker's clockwork: how often it does what, and how long it bears with trouble."""

from __future__ import annotations

from dataclasses import dataclass

from metering.settlement.redis_stream import KEEP_MS


@dataclass(frozen=True, slots=True)
class Timing:
    """How often the worker does what; the defaults are production's."""

    block_ms: int = 500
    """Longest wait for a new entry: bounds how late a stop is noticed."""
    claim_every_s: float = 30.0
    claim_idle_ms: int = 60_000
    """Far above the time a batch takes: whoever is silent for so long is dead."""
    upkeep_every_s: float = 5.0
    """Rollups, windows, trimming, alerts."""
    spools_wait_s: float = 2.5
    """From an emptied Redis to its windows being whole: proxies look once a second whether it was
    emptied, and what they send again before that counts once."""
    watch_every_s: float = 60.0
    """The backlog, the memory of Redis, the spools of proxies, consumers that are gone."""
    send_every_s: float = 1.0
    """What is in the outbox goes to the sinks."""
    send_last_s: float = 5.0
    """At the end of a run, once more and for no longer; what is left is sent by the next run."""
    drift_every_s: float = 300.0
    """A part of the windows is compared with the ledger."""
    consumer_gone_ms: int = 86_400_000
    """A consumer of the group that is silent for so long, and owes nothing, is removed."""
    keep_ms: int = KEEP_MS
    recover_after_s: float = 60.0
    """From the end of a hold's time until it is taken for lost: a living proxy speaks before."""
    newer_wait_s: float = 300.0
    """A hold record of a newer version is left alone for so long, for the sake of upgrades."""
    retry_first_s: float = 0.2
    retry_max_s: float = 2.0
    """What comes back is used within 5 s, the time to connect included."""
    tries_alone: int = 2
    """An entry at which workers died so often is settled by itself: its neighbours go on."""
    tries_max: int = 5
    """Deaths after which an entry is a dead letter."""
    newer_deliveries: int = 150
    """An event of a newer schema is tried so often: five minutes, for the sake of upgrades."""
    drain_patience_s: float = 10.0
    """A drain that gets nowhere for so long is given up: somebody waits for its end."""
    stop_patience_s: float = 20.0
    """What stands in the streams at a stop is settled for no longer; the next start goes on."""
    stop_answer_s: float = 2.0
    """At a stop, a Redis that says nothing for so long is not waited for any longer."""
    stop_tries: int = 3
    """How often a stop bears with trouble; what is in the streams is safe there."""
