"""The meter of one attempt: counts what streams past, hears what the provider says, decides.

The provider's numbers win, one side at a time; ours fill in what it did not say or said wrongly.
Reports replace each other and are never added: providers send running totals. A report that more
text followed is an interim one: the larger of it and our count is billed. Where a report cannot be
believed, our count is billed and at most the output that was held for the attempt. That is one of
no input for a prompt, of no output for a text, or of far more output than was asked for and came.
"""

from __future__ import annotations

from collections.abc import Mapping

from metering.counter import IncrementalCounter
from metering.money import divide_up
from metering.tokenizer import Tokenizer
from metering.usage import (
    INPUT_CLASSES,
    INPUT_UNCACHED,
    OUTPUT_CLASSES,
    OUTPUT_REASONING,
    OUTPUT_TEXT,
    MeteredUsage,
    ReportedUsage,
    input_total,
    is_count,
    output_total,
)

# One text to the model: the choice's index, and "content", "reasoning", "tool:0", ...
Channel = tuple[int, str]

CHANNELS_MAX = 1024  # 128 choices of 8 texts; an upstream that opens more is not given the memory

UNREAD_BYTES_PER_TOKEN = 4
"""What was relayed and could not be read is estimated at plain English's bytes per token: too much
for JSON around a text, about right for the text and arguments that make an event that long."""

BEYOND_LIMIT_TOKENS = 64
"""What any answer may be longer than its limit: servers raise small limits to a least one."""

REASONING_BEYOND_MAX = 131_072
"""Reasoning that is believed beyond a limit, for each choice. Most servers count it within the
limit, some (xAI) limit the visible text alone; none thinks longer than that."""

FAR_FACTOR = 4
"""Tokenizers differ by less: counts that are so far apart are not of the same text."""

DRIFT_COUNTED_MIN = 50
"""Shorter texts may differ by any factor: a server's frame is a good part of them."""


class Meter:
    """Counts the output of one attempt as it arrives and settles it against reported usage."""

    __slots__ = (
        "_candidates",
        "_counters",
        "_exact",
        "_fed",
        "_final",
        "_is_stale",
        "_limit",
        "_output",
        "_prompt_tokens",
        "_suspect",
        "_tokenizer",
        "_tools",
        "_unread",
        "is_in_thread",
        "output_max",
        "reported_input",
        "reported_region",
        "reported_speed",
    )

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_tokens: int,
        *,
        output_max: int | None = None,
        limit: int | None = None,
        candidates: int = 1,
        tools: Mapping[str, int] | None = None,
    ) -> None:
        """`prompt_tokens` is our count of the prompt, in the model's tokens (factor applied).

        `output_max` is the output that the hold covers, None when nothing is held. `limit` is what
        each of the `candidates` may say by the request, None where it does not say. `tools` are the
        uses of the provider's tools where none are reported.
        """
        self._tokenizer = tokenizer
        self._prompt_tokens = prompt_tokens
        self.output_max = output_max
        """The output that the hold covers; whoever lets the hold grow says so here."""
        self._limit, self._candidates, self._tools = limit, candidates, tools
        self._unread = 0
        self._exact = 0  # `output_seen` when it was last counted for `reaches`
        self._fed = 0  # and at most so many tokens of the encoding have come since
        self._counters: dict[Channel, IncrementalCounter] = {}
        self.reported_input: Mapping[str, int] | None = None
        """The input that the provider has reported so far, by class. To be read only; every event
        of a stream asks for it."""
        self.reported_speed: str | None = None
        self.reported_region: str | None = None
        """What the provider says its price depends on beside tokens, as `ReportedUsage` has it."""
        self._output: Mapping[str, int] | None = None
        self._is_stale = False  # text came after the last report of output
        self._suspect: str | None = None
        self._final: MeteredUsage | None = None
        self.is_in_thread = False
        """Set by whoever feeds this in another thread: nobody may ask it anything meanwhile."""

    def text(self, channel: Channel, delta: str) -> None:
        """Count `delta` as the next characters of that channel.

        A channel whose name starts with "reasoning" counts as reasoning, any other as text.
        """
        counter = self._counters.get(channel)
        if counter is None:
            counter = self._open(channel)
        counter.feed(delta)
        # a token is a byte at least, a character up to four of them
        self._fed += len(delta) if delta.isascii() else 4 * len(delta)
        self._is_stale = True

    def unread(self, size: int) -> None:
        """Note `size` bytes of the answer that were relayed and could not be read."""
        self._unread += size
        self._fed += size
        self._is_stale = True

    def report(self, usage: ReportedUsage) -> None:
        """Take note of usage seen on any chunk; each side that is not None replaces the last.

        A suspicious report replaces both by nothing: then our own count is billed, since the
        numbers before it were not the final ones.
        """
        if usage.tools is not None:
            self._tools = usage.tools
        if usage.speed is not None:
            self.reported_speed, self.reported_region = usage.speed, usage.region
        if usage.suspect is not None:
            self.reported_input = self._output = None
            self._suspect = usage.suspect
            return
        if usage.input is not None:
            self.reported_input = self._believed("input", usage.input, INPUT_CLASSES)
        if usage.output is not None:
            before, self._is_stale = self._output, False
            self._output = self._believed("output", usage.output, OUTPUT_CLASSES)
            if self._output:
                self._exact = max(self._exact, output_total(self._output))
            if self._output and before and output_total(self._output) < output_total(before):
                self._suspect = "reported output became less"
        if usage.doubt is not None:
            self._suspect = usage.doubt

    @property
    def is_silent(self) -> bool:
        """Whether no text has come, and nothing that may be one."""
        return not self._counters and not self._unread

    @property
    def output_tokens(self) -> int:
        """Visible output so far over all channels, in the model's tokens. Cheap; may fall a bit."""
        return self._estimated + self._tokenizer.scale(
            sum(counter.count for counter in self._counters.values())
        )

    @property
    def output_seen(self) -> int:
        """The larger of our count so far and what the provider has reported."""
        return max(self.output_tokens, output_total(self._output or {}))

    def reaches(self, tokens: int, *, late_tokens: int = 0) -> bool:
        """Whether `output_seen` is this much by now. Asked after every event of a stream, it counts
        only when what has come since the last count could make up the difference.

        The answer may come up to `late_tokens` too late, which saves most of the counting.
        """
        if self._exact < tokens:
            if self._fed < late_tokens:  # the scaling costs more than this
                return False
            if self._exact + self._tokenizer.scale(self._fed) < tokens:
                return False
        self._fed, self._exact = 0, self.output_seen
        return self._exact >= tokens

    @property
    def _estimated(self) -> int:
        return divide_up(self._unread, UNREAD_BYTES_PER_TOKEN)

    def final(self) -> MeteredUsage:
        """What this attempt used. The first call decides; what comes after it changes nothing."""
        if self._final is None:
            self._final = self._settle()
        return self._final

    def so_far(self) -> MeteredUsage:
        """What this attempt has used until now, as if it ended here; it goes on unchanged."""
        return self._settle()

    def _open(self, channel: Channel) -> IncrementalCounter:
        if len(self._counters) >= CHANNELS_MAX:  # the rest share one, at a token's loss per seam
            channel = (-1, "reasoning" if _is_reasoning(channel) else "content")
            if channel in self._counters:
                return self._counters[channel]
        counter = self._counters[channel] = IncrementalCounter(self._tokenizer.encoding)
        return counter

    def _believed(
        self, side: str, units: Mapping[str, int], classes: tuple[str, ...]
    ) -> Mapping[str, int] | None:
        """`units`, or None if something is wrong with them: a stream must not die of that."""
        for name, tokens in units.items():
            if name not in classes or not is_count(tokens):
                self._suspect = f"reported {side} is not a count of tokens: {name}"
                return None
        return units

    def _settle(self) -> MeteredUsage:
        prompt = {INPUT_UNCACHED: self._prompt_tokens}
        visible = self._counted_output()
        given, reported = self.reported_input, self._output
        drift_tokens, suspect = 0, self._suspect
        if reported is not None:
            drift_tokens = output_total(reported) - output_total(visible)
            why, doubt = self._disbelief(reported, output_total(visible)), None
            if why is not None:
                suspect, reported = why, None
                if not any((given or {}).values()):
                    given = None  # a report of nothing at all says nothing of the prompt
            elif self._is_stale and drift_tokens < 0:
                # an interim or placeholder number, then the stream went on: billing it would let
                # a client pay one token for an answer by leaving before the end
                reported = None
            else:
                doubt = _drifted(output_total(reported), output_total(visible) - self._estimated)
            suspect = suspect or doubt
        if given is not None and self._has_free_prompt(given, reported):
            suspect = f"no input was reported, {self._prompt_tokens} tokens were counted"
            given = None
        if suspect is None and self._unread and not self._accounts_for_unread(given, reported):
            suspect = f"{self._unread} bytes of the answer could not be read and are estimated"
        sides = (given is not None, reported is not None)
        counted = visible if suspect is None else self._within_hold(visible)
        units = {
            **(prompt if given is None else given),
            **(counted if reported is None else reported),
        }
        if self._tools:
            units |= self._tools
        return MeteredUsage(
            units=_without_zeros(units),
            counted=_without_zeros({**prompt, **visible}),
            source="provider" if all(sides) else "mixed" if any(sides) else "counted",
            tokenizer=self._tokenizer.name,
            drift_tokens=drift_tokens,
            suspect=suspect,
        )

    def _disbelief(self, reported: Mapping[str, int], visible: int) -> str | None:
        """Why this output cannot be, beside that much of it which was seen; None when it can."""
        total = output_total(reported)
        if total == 0:
            return f"no output was reported, {visible} tokens were counted" if visible else None
        if self._limit is None or total <= FAR_FACTOR * visible:
            return None
        asked = self._limit * self._candidates
        reasoning = reported.get(OUTPUT_REASONING, 0)
        if (
            total - reasoning <= 2 * asked + BEYOND_LIMIT_TOKENS
            and reasoning <= asked + REASONING_BEYOND_MAX * self._candidates
        ):
            return None
        return f"{total} tokens of output were reported, {asked} asked for, {visible} counted"

    def _has_free_prompt(self, given: Mapping[str, int], output: Mapping[str, int] | None) -> bool:
        """Whether no input is reported for a prompt that was read: one that was answered, if only
        with nothing to be seen. Where a report has zeros alone, nothing was done."""
        if any(given.values()) or self._prompt_tokens == 0:
            return False
        return not output or output_total(output) > 0

    def _accounts_for_unread(
        self, given: Mapping[str, int] | None, reported: Mapping[str, int] | None
    ) -> bool:
        """Whether what is billed may well be all of the answer, of which a part was not read.

        What a tool of the provider's found stands in the answer, and is input to the rest of it.
        """
        if given is None or reported is None:
            return False
        found = max(0, input_total(given) - self._prompt_tokens)
        return _drifted(output_total(reported) + found, self.output_tokens) is None

    def _within_hold(self, visible: dict[str, int]) -> dict[str, int]:
        """What is billed of our count where the upstream's word is no good: what was held."""
        if self.output_max is None or output_total(visible) <= self.output_max:
            return visible
        text = min(visible[OUTPUT_TEXT], self.output_max)
        return {OUTPUT_TEXT: text, OUTPUT_REASONING: self.output_max - text}

    def _counted_output(self) -> dict[str, int]:
        """Our count by class. The classes add up to `output_tokens`: only the sum is rounded."""
        reasoning = self._tokenizer.scale(
            sum(
                counter.count
                for channel, counter in self._counters.items()
                if _is_reasoning(channel)
            )
        )
        return {OUTPUT_TEXT: self.output_tokens - reasoning, OUTPUT_REASONING: reasoning}


def _is_reasoning(channel: Channel) -> bool:
    return channel[1].startswith("reasoning")


def _drifted(reported: int, counted: int) -> str | None:
    """What is odd about output of which far more was seen than is reported."""
    if counted <= DRIFT_COUNTED_MIN or FAR_FACTOR * reported >= counted:
        return None
    return f"{reported} tokens of output were reported, {counted} were counted"


def _without_zeros(units: Mapping[str, int]) -> dict[str, int]:
    return {name: tokens for name, tokens in units.items() if tokens}
