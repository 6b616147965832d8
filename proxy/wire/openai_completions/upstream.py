"""OpenAI's legacy completions as upstreams speak them: what they are sent, and what they answer.

Only what came as a completion is sent as one: a chat has no prompt of which one could say that it
is the model's. What is echoed of a prompt is relayed and is no output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxy import sse
from proxy.chat import ChatRequest
from proxy.errors import InvalidRequest
from proxy.wire import Decoder, Reading, Sending
from proxy.wire.openai_chat.errors import classify_error, read_error
from proxy.wire.openai_chat.usage import read_usage
from proxy.wire.openai_completions.endings import AS_SAID, AsSaid, shared_fields, stream_end
from proxy.wire.openai_completions.prompts import read_prompts, text_of

__all__ = ["classify_error", "read_error", "read_usage"]

TRANSLATES = False
ANSWER_FIELD = "choices"
USAGE_FIELD = "usage"
LIMIT_REQUIRED = False
LIMIT_MIN = 1
INSTRUCTS = False


def cannot_carry(chat: Mapping[str, Any]) -> Sequence[str]:
    """The conversation itself."""
    return ("messages",)


def from_chat(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """Always refused: see `TRANSLATES`."""
    raise InvalidRequest(
        "A conversation cannot be sent as a text to be completed.", param="messages"
    )


def same_format(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The object that was priced, with the upstream's model name and always with a limit.

    `instruct` has no place in a text that is to be continued, and is left out.
    """
    body = {**request.body, "model": sending.model}
    if request.stream and sending.inject_usage:
        options = request.body.get("stream_options") or {}
        body["stream_options"] = {**options, "include_usage": True}
    limit, output_max = request.output_limit, sending.output_max
    known = [each for each in (limit, output_max) if each is not None]
    if known:
        body["max_tokens"] = min(known)
    return body


def decoder() -> Decoder:
    """Server-sent events."""
    return sse.Decoder()


class TextSource:
    """A stream of completion chunks."""

    __slots__ = ("_echo", "_shared", "_strip_usage")

    def __init__(self, *, strip_usage: bool, echo: _Echo | None = None) -> None:
        self._strip_usage = strip_usage
        self._echo = echo
        self._shared: dict[str, Any] = {}

    def read(self, data: dict[str, Any]) -> Reading:
        """The chunk's texts as deltas, and its usage. An injected usage chunk is withheld."""
        if "id" not in self._shared:
            self._shared = shared_fields(data)
        usage, choices = data.get("usage"), data.get("choices")
        spoken = _spoken(choices, "delta", self._echo) if isinstance(choices, list) else []
        is_told = isinstance(usage, dict)
        return Reading(
            ({**data, "object": "chat.completion.chunk", "choices": spoken},),
            read_usage(usage) if isinstance(usage, dict) else None,
            is_withheld=self._strip_usage and is_told and not choices,
            is_odd=bool(data.get("error")) or not isinstance(choices, list),
        )

    def end_softly(self, choices: Sequence[int], units: Mapping[str, int]) -> bytes:
        """A last chunk for each open choice, the usage chunk where it was asked for, `[DONE]`."""
        told = None if self._strip_usage else units
        return stream_end(self._shared, choices=choices, units=told)


def source(request: ChatRequest, *, created_s: int) -> TextSource:
    """What reads a stream of chunks."""
    return TextSource(strip_usage=not request.wants_usage, echo=_echo_of(request))


def read_whole(
    answer: dict[str, Any], request: ChatRequest, *, created_s: int
) -> dict[str, Any] | None:
    """The answer with its texts as messages, if it is a completion."""
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return None
    spoken = _spoken(choices, "message", _echo_of(request))
    if request.stream:  # it is told as a stream then, its echo and logprobs with it
        for said, choice in zip(spoken, filter(_is_choice, choices), strict=True):
            text = choice.get("text")
            said[AS_SAID] = AsSaid(text if isinstance(text, str) else "", choice.get("logprobs"))
    return {**answer, "object": "chat.completion", "choices": spoken}


def _is_choice(value: object) -> bool:
    return isinstance(value, dict)


def _spoken(choices: list[Any], part: str, echo: _Echo | None) -> list[dict[str, Any]]:
    spoken = []
    for choice in filter(_is_choice, choices):
        text, index = choice.get("text"), choice.get("index")
        said = text if isinstance(text, str) else ""
        if echo is not None and said:
            said = echo.without(index if type(index) is int else 0, said)
        spoken.append(
            {
                "index": index,
                part: {"content": said},
                "finish_reason": choice.get("finish_reason"),
            }
        )
    return spoken


class _Echo:
    """Takes the prompt off the start of each choice, however it is cut.

    Where an answer goes on in another way than its prompt, nothing more is taken off: what cannot
    be told from output is counted.
    """

    def __init__(self, prompts: Sequence[str | None], *, per_prompt: int) -> None:
        self._prompts = prompts
        self._per_prompt = per_prompt
        self._done: dict[int, int] = {}

    def without(self, index: int, said: str) -> str:
        """What of this text is not echoed."""
        at, number = self._done.get(index, 0), index // self._per_prompt
        if at < 0 or not 0 <= number < len(self._prompts):
            return said
        prompt = self._prompts[number] or ""
        common = min(len(said), len(prompt) - at)
        if common <= 0 or said[:common] != prompt[at : at + common]:
            self._done[index] = -1
            return said
        self._done[index] = at + common
        return said[common:]


def _echo_of(request: ChatRequest) -> _Echo | None:
    if not request.body.get("echo"):
        return None
    prompts = read_prompts(request.body.get("prompt")) or []
    if not prompts:
        return None
    texts = [text_of(each, request.model) for each in prompts]
    return _Echo(texts, per_prompt=max(1, request.choices // len(prompts)))
