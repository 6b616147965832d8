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
    """Rollups, windows, trimming."""
    keep_ms: int = KEEP_MS
    recover_after_s: float = 60.0
    """From the end of a hold's time until it is taken for lost: a living proxy speaks before."""
    retry_first_s: float = 0.2
    retry_max_s: float = 10.0
    drain_patience_s: float = 10.0
    """A drain that gets nowhere for so long is given up: somebody waits for its end."""
    stop_patience_s: float = 20.0
    """What stands in the streams at a stop is settled for no longer; the next start goes on."""
    stop_tries: int = 3
    """How often a stop bears with trouble; what is in the streams is safe there."""
