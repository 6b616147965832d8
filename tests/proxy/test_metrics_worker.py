"""What the worker says of its batches, counted."""

from __future__ import annotations

from metering.settlement.batches import BatchReport, Difference
from metering.settlement.watch import Watch
from proxy.metrics import Metrics
from proxy.metrics_worker import WorkerWatch


def counters(metrics: Metrics) -> dict[str, float]:
    return {name: value for (name, *_), value in metrics.counters.items()}


async def test_batches_add_up() -> None:
    """Two batches: each number of their reports, the events that differ, and the time they took."""
    metrics = Metrics()
    watch: Watch = WorkerWatch(metrics)
    assert set(counters(metrics).values()) == {0}

    differing = Difference("acme", events=3, sell_nano=1, cost_nano=0, event_ids=())
    watch.batch(BatchReport(5, 4, 3, 2, differences=(differing, differing)), 0.2)
    watch.batch(BatchReport(settled=1), 0.3)
    watch.recovered(7)
    watch.repaired(8)
    watch.alerted("cap_drift")
    watch.reviewed("pause", "shadow")
    watch.paid({"paid": 2, "refunded": 1})
    watch.delivered("erp", "taken")

    assert counters(metrics) == {
        "weir_settled_events_total": 6,
        "weir_settled_repeats_total": 4,
        "weir_settlement_conflicts_total": 3,
        "weir_settlement_dead_letters_total": 2,
        "weir_settlement_differences_total": 6,
        "weir_settlement_retries_total": 0,
        "weir_recovered_exchanges_total": 7,
        "weir_windows_repaired_buckets_total": 8,
        "weir_alerts_total": 1,
        "weir_review_steps_total": 1,
        "weir_payment_steps_total": 1,
        "weir_webhook_messages_total": 1,
    }
    [(*counts, total)] = metrics.histograms.values()
    assert (sum(counts), total) == (2, 0.5)


async def test_trouble_is_named_until_it_is_over() -> None:
    """Only the kind of the error: its message may hold what nobody should read."""
    metrics = Metrics()
    watch = WorkerWatch(metrics)
    watch.failed(OSError("cannot reach secret-host"))
    assert (await watch.look())["trouble"] == "OSError"

    watch.turned()
    standing = await watch.look()
    assert standing["trouble"] is None
    assert standing["last_turn_age_s"] == 0.0
    assert standing["last_batch_age_s"] is None
    assert counters(metrics)["weir_settlement_retries_total"] == 1
