"""What one attempt used: the provider's word, our count, and when which is billed."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.meter import CHANNELS_MAX, Meter
from metering.tokenizer import tokenizer_for
from metering.usage import (
    OUTPUT_REASONING,
    OUTPUT_TEXT,
    MeteredUsage,
    ReportedUsage,
    input_total,
    output_total,
)

CONTENT, REASONING = (0, "content"), (0, "reasoning")
HELLO = "hello world, how are you?"  # 7 tokens of o200k_base
SAID = {"input_uncached": 90, "input_cache_read": 10}
ANSWER = {"output_text": 8, "output_reasoning": 20}


def metered(*reports: ReportedUsage, text: str = HELLO, model: str = "gpt-4o") -> MeteredUsage:
    meter = Meter(tokenizer_for(model), prompt_tokens=95)
    meter.text(CONTENT, text)
    for usage in reports:
        meter.report(usage)
    return meter.final()


def reported(**sides: Any) -> ReportedUsage:
    return ReportedUsage(**sides)


@pytest.mark.parametrize(
    ("reports", "units", "source", "drift_tokens"),
    [
        pytest.param([], {"input_uncached": 95, "output_text": 7}, "counted", 0, id="no report"),
        pytest.param(
            [reported()], {"input_uncached": 95, "output_text": 7}, "counted", 0, id="empty"
        ),
        pytest.param(
            [reported(input=SAID, output=ANSWER)], SAID | ANSWER, "provider", 21, id="both"
        ),
        pytest.param(
            [reported(input=SAID)], SAID | {"output_text": 7}, "mixed", 0, id="input only"
        ),
        pytest.param(
            [reported(output=ANSWER)],
            {"input_uncached": 95} | ANSWER,
            "mixed",
            21,
            id="output only",
        ),
        pytest.param(
            [reported(input=SAID, output={"output_text": 1}), reported(output=ANSWER)],
            SAID | ANSWER,
            "provider",
            21,
            id="running totals replace each other",
        ),
        pytest.param(
            [reported(input=SAID, output=ANSWER), reported()],
            SAID | ANSWER,
            "provider",
            21,
            id="a last chunk without usage takes nothing back",
        ),
        pytest.param(
            [reported(input={"input_uncached": 0, "input_cache_read": 95}, output=ANSWER)],
            {"input_cache_read": 95} | ANSWER,
            "provider",
            21,
            id="a reported zero is a number",
        ),
    ],
)
def test_the_provider_wins_side_by_side(
    reports: list[ReportedUsage], units: dict[str, int], source: str, drift_tokens: int
) -> None:
    """A side the provider gave is billed as it last gave it; the other as we counted it."""
    usage = metered(*reports)

    assert (usage.units, usage.source) == (units, source)
    assert (usage.drift_tokens, usage.suspect) == (drift_tokens, None)
    assert usage.counted == {"input_uncached": 95, "output_text": 7}


@pytest.mark.parametrize(
    ("report", "units", "source", "why"),
    [
        pytest.param(
            reported(input=SAID, output={"output_text": 0}),
            SAID | {"output_text": 7},
            "mixed",
            "no output was reported, 7 tokens were counted",
            id="zero output beside visible text",
        ),
        pytest.param(
            reported(input={"input_uncached": 0}, output=ANSWER),
            {"input_uncached": 95} | ANSWER,
            "mixed",
            "no input was reported, 95 tokens were counted",
            id="a prompt for nothing",
        ),
        pytest.param(
            reported(input={"input_uncached": 0}, output=None),
            {"input_uncached": 95, "output_text": 7},
            "counted",
            "no input was reported, 95 tokens were counted",
            id="a prompt for nothing, and no word of output",
        ),
        pytest.param(
            reported(input=SAID, output={}),
            SAID | {"output_text": 7},
            "mixed",
            "no output was reported, 7 tokens were counted",
            id="an empty side is a reported zero",
        ),
        pytest.param(
            reported(input=SAID, output=ANSWER, suspect="totals do not add up"),
            {"input_uncached": 95, "output_text": 7},
            "counted",
            "totals do not add up",
            id="the decoder did not believe it",
        ),
        pytest.param(
            reported(input=SAID, output={"output_text": -5}),
            SAID | {"output_text": 7},
            "mixed",
            "reported output is not a count of tokens: output_text",
            id="negative",
        ),
        pytest.param(
            reported(input={"output_text": 5}, output=ANSWER),
            {"input_uncached": 95} | ANSWER,
            "mixed",
            "reported input is not a count of tokens: output_text",
            id="a class of the other side",
        ),
    ],
)
def test_what_cannot_be_is_not_billed(
    report: ReportedUsage, units: dict[str, int], source: str, why: str
) -> None:
    """A side that is not believed gives way to our count, and the event says why."""
    usage = metered(report)

    assert (usage.units, usage.source, usage.suspect) == (units, source, why)


def test_nothing_said_and_nothing_reported_is_empty() -> None:
    """A provider's zero for an attempt without output is believed, and looks like one."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=95)
    meter.report(ReportedUsage(input={"input_uncached": 0}, output={"output_text": 0}))

    assert meter.final().units == {}
    assert meter.final().source == "provider"


def test_a_doubt_ends_an_earlier_total_but_a_later_one_is_believed() -> None:
    """A suspicious total is newer than the one before it; the next good one is newer still."""
    good, bad = reported(output=ANSWER), reported(output={"output_text": 9}, suspect="odd")

    assert metered(good, bad).units["output_text"] == 7
    assert metered(good, bad, good).units == {"input_uncached": 95} | ANSWER
    assert metered(good, bad, good).suspect == "odd"


def test_final_decides_once() -> None:
    """What is committed cannot change afterwards."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=95)
    meter.text(CONTENT, HELLO)
    first = meter.final()

    meter.text(CONTENT, HELLO)
    meter.report(ReportedUsage(output=ANSWER))

    assert meter.final() is first


def test_channels_are_separate_texts() -> None:
    """Choices, tool calls and reasoning interleave in the stream but never merge into one word."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=0)
    for index in (0, 1):
        for part in (" wor", "ld"):
            meter.text((index, "content"), part)
            meter.text((index, "tool:0"), part)
            meter.text((index, "reasoning"), part)
            meter.text((index, "reasoning:summary"), part)

    assert meter.output_tokens == 8
    assert meter.final().units == {"output_text": 4, "output_reasoning": 4}


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(["gpt-4o", "claude-opus-4-7", "qwen3", "gpt-4"]),
    deltas=st.lists(
        st.tuples(
            st.tuples(st.integers(0, 2), st.sampled_from(["content", "reasoning", "tool:0"])),
            st.text(max_size=6),
        ),
        max_size=20,
    ),
)
def test_the_final_count_is_the_running_count(
    model: str, deltas: list[tuple[tuple[int, str], str]]
) -> None:
    """The classes add up to what limits saw, and to the sum over whole texts, factor included."""
    tokenizer = tokenizer_for(model)
    meter, texts = Meter(tokenizer, prompt_tokens=3), dict[tuple[int, str], str]()
    for channel, delta in deltas:
        meter.text(channel, delta)
        texts[channel] = texts.get(channel, "") + delta
    whole = sum(len(tokenizer.encoding.encode_ordinary(text)) for text in texts.values())

    usage = meter.final()

    assert output_total(usage.units) == meter.output_tokens == tokenizer.scale(whole)
    assert input_total(usage.units) == 3
    assert 0 not in usage.units.values()


def test_a_foreign_model_is_counted_with_its_factor() -> None:
    """Seven tokens of o200k_base are ten of a model a third dearer, and the event can tell."""
    usage = metered(model="claude-opus-4-7")

    assert (usage.units["output_text"], usage.tokenizer) == (10, "o200k_base*1.35")


def test_channels_are_limited() -> None:
    """An upstream that opens channels without end is counted, but not given memory without end."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=0)

    for index in range(CHANNELS_MAX * 2):
        meter.text((index, "tool:0"), " word")

    assert len(meter._counters) <= CHANNELS_MAX + 2
    assert meter.output_tokens == CHANNELS_MAX * 2


def test_asking_in_the_middle_changes_nothing() -> None:
    """A checkpoint sees what a final would, and the stream goes on as if nobody had asked."""
    asked, silent = (Meter(tokenizer_for("gpt-4o"), prompt_tokens=95) for _ in range(2))
    nothing = reported(input={"input_uncached": 0}, output={"output_text": 0})
    for meter in (asked, silent):
        meter.text(CONTENT, HELLO)
        meter.report(nothing)
    seen = asked.so_far()
    for meter in (asked, silent):
        meter.text(CONTENT, HELLO)
        meter.report(reported(input=None, output=ANSWER))

    assert seen.units == {"input_uncached": 95, "output_text": 7}
    assert asked.final() == silent.final()


@given(
    texts=st.lists(st.text(max_size=40), max_size=30),
    wanted=st.integers(1, 120),
    late=st.integers(0, 40),
)
def test_what_is_reached_is_known_in_time(texts: list[str], wanted: int, late: int) -> None:
    """However the text is cut: at once, or later by no more than was allowed, and then for good."""
    counted, was_reached = Meter(tokenizer_for("gpt-4o"), 0), False
    for text in texts:
        counted.text((0, "content"), text)
        reached = counted.reaches(wanted, late_tokens=late)
        output = counted.output_tokens
        assert not reached or was_reached or output >= wanted
        assert reached or output < wanted + max(late, 1)
        was_reached = was_reached or reached


def test_what_a_provider_reports_is_reached() -> None:
    """Running totals count as soon as they are more than we have seen: hidden reasoning."""
    counted = Meter(tokenizer_for("gpt-4o"), 0)
    counted.text((0, "content"), "word")
    assert not counted.reaches(50, late_tokens=100)

    counted.report(ReportedUsage(output={OUTPUT_TEXT: 1, OUTPUT_REASONING: 60}))

    assert counted.reaches(50, late_tokens=100)
    assert counted.output_seen == 61


@pytest.mark.parametrize(
    ("output", "is_believed"),
    [
        ({OUTPUT_TEXT: 10**7}, False),
        ({OUTPUT_TEXT: 75}, False),
        ({OUTPUT_TEXT: 74}, True),
        ({OUTPUT_TEXT: 5, OUTPUT_REASONING: 20_000}, True),
        ({OUTPUT_TEXT: 5, OUTPUT_REASONING: 10**6}, False),
    ],
    ids=str,
)
def test_far_more_than_was_asked_for_is_not_believed(
    output: dict[str, int], is_believed: bool
) -> None:
    """Our count is billed where neither limit nor text can explain a report. Some servers raise
    small limits, and some think beyond them."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=95, limit=5)
    meter.text(CONTENT, HELLO)
    meter.report(ReportedUsage(input=SAID, output=output))
    usage = meter.final()

    assert (usage.suspect is None) is is_believed
    assert usage.units == SAID | (output if is_believed else {OUTPUT_TEXT: 7})


def test_a_limit_that_is_not_heeded_is_billed_as_it_came() -> None:
    """A server that goes on beyond `max_tokens` is believed as far as its text was seen."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=95, limit=5, candidates=2)
    meter.text(CONTENT, HELLO * 100)
    meter.report(ReportedUsage(input=SAID, output={OUTPUT_TEXT: 800}))

    assert meter.final().units[OUTPUT_TEXT] == 800
    assert meter.final().suspect is None


@pytest.mark.parametrize(("said", "is_doubted"), [(1, True), (12, True), (14, False)], ids=str)
def test_far_less_than_was_seen_is_billed_and_doubted(said: int, is_doubted: bool) -> None:
    """56 tokens were seen: a quarter of that is a tokenizer's matter, less is none's."""
    usage = metered(reported(input=SAID, output={OUTPUT_TEXT: said}), text=" word" * 56)

    assert usage.counted[OUTPUT_TEXT] == 56
    assert usage.units[OUTPUT_TEXT] == said
    assert (usage.suspect is not None) is is_doubted


def test_what_a_report_accounts_for_is_not_suspect() -> None:
    """A picture in the answer is not read here, and billed as it was reported: nobody lied."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=95)
    meter.text(CONTENT, HELLO)
    meter.unread(1_500_000 // 256)

    meter.report(reported(input=SAID, output={"output_text": 1297}))

    assert (meter.final().suspect, meter.final().source) == (None, "provider")


def test_what_a_tool_has_found_is_input() -> None:
    """The findings of a search stand in the answer; the model has read them after its prompt."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=95)
    meter.unread(8_000)
    meter.text(CONTENT, HELLO)

    meter.report(reported(input={"input_uncached": 3_000}, output={"output_text": 7}))

    assert meter.final().suspect is None


@pytest.mark.parametrize(
    "sides",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"output": {"output_text": 1_000}}, id="output-alone"),
        pytest.param({"input": SAID}, id="input-alone"),
        pytest.param({"input": SAID, "output": {"output_text": 7}}, id="far-too-little"),
    ],
)
def test_what_no_report_accounts_for_is_estimated_and_said(sides: Any) -> None:
    """An answer whose unread part is in no number of the provider's is looked at by a person."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=95)
    meter.text(CONTENT, HELLO)
    meter.unread(8_000)

    meter.report(reported(**sides))

    assert meter.final().suspect is not None
    assert "8000 bytes of the answer could not be read" in meter.final().suspect


def test_a_report_before_what_was_not_read_accounts_for_nothing() -> None:
    """An interim number of a stream says nothing of what comes after it."""
    meter = Meter(tokenizer_for("gpt-4o"), prompt_tokens=95)
    meter.report(reported(input=SAID, output={"output_text": 1}))

    meter.unread(8_000)

    assert meter.final().suspect is not None
    assert meter.final().units["output_text"] == 2_000


def test_silence() -> None:
    """Reports are no words; a text is one, and so is what could not be read."""
    spoken, unread = (Meter(tokenizer_for("gpt-4o"), 10) for _ in range(2))
    spoken.report(reported(input={"input_uncached": 10}))
    assert spoken.is_silent
    spoken.text((0, "content"), "x")
    unread.unread(4)
    assert (spoken.is_silent, unread.is_silent) == (False, False)
