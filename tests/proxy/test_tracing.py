"""The tracer by itself: sampling, and what belongs to no request."""

from __future__ import annotations

from proxy.spans import Histograms, Span
from proxy.tracing import Tracer


def tracer_with(spans: list[Span], *, sample_ppm: int, drawn: int = 0) -> Tracer:
    """One whose draw is this of a million, and whose clock goes by a nanosecond."""
    times = iter(range(1, 100))
    return Tracer(
        spans.append,
        Histograms(),
        sample_ppm=sample_ppm,
        clock=lambda: next(times),
        entropy=lambda count: (b"\1" * 24 + drawn.to_bytes(4))[-count:],
    )


def test_a_share_is_recorded() -> None:
    """The draw decides where no client does; none at 0, all at 1."""
    for drawn, sample_ppm, recorded in (
        (0, 0, False),
        (499_999, 500_000, True),
        (500_000, 500_000, False),
        (999_999, 1_000_000, True),
    ):
        spans: list[Span] = []
        tracer = tracer_with(spans, sample_ppm=sample_ppm, drawn=drawn)
        trace, token = tracer.begin([], "/v1/chat/completions")
        tracer.end(trace, token, "x", {})

        assert bool(spans) is recorded


def test_stages_lie_end_to_end() -> None:
    """Each begins where the one before ended."""
    spans: list[Span] = []
    tracer = tracer_with(spans, sample_ppm=1_000_000)
    trace, token = tracer.begin([], "/v1/embeddings")
    tracer.stage("one")
    tracer.stage("two")
    tracer.end(trace, token, "all", {"http.route": "/v1/embeddings"})

    assert [(each.name, each.start_ns, each.end_ns) for each in spans] == [
        ("one", 1, 2),
        ("two", 2, 3),
        ("all", 1, 4),
    ]


def test_what_belongs_to_no_request_is_not_told() -> None:
    """After its end, and in tasks of the process' own, a stage is nobody's."""
    spans: list[Span] = []
    tracer = tracer_with(spans, sample_ppm=1_000_000)
    trace, token = tracer.begin([], "/v1/embeddings")
    tracer.end(trace, token, "all", {})
    tracer.stage("late")
    tracer.refused("late")
    tracer.step("late", 0, {})

    assert [each.name for each in spans] == ["all"]


def test_work_of_its_own_is_a_trace_of_its_own() -> None:
    """A batch of the worker's has no parent."""
    spans: list[Span] = []
    tracer_with(spans, sample_ppm=1_000_000).alone("settle batch", 0, {"weir.settled": 3})

    (span,) = spans
    assert (span.name, span.parent_id, span.attributes) == (
        "settle batch",
        None,
        {"weir.settled": 3},
    )
