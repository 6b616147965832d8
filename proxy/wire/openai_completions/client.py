"""OpenAI's legacy completions as clients speak them: their requests, and what they are answered.

A limit that is left out is 16 tokens, as OpenAI documents: that is held, and it is written into
what goes out, because other servers' own default is to go on until the context is full.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import orjson

from metering.tokenizer import Tokenizer
from proxy import request_fields
from proxy.chat import CHOICES_MAX, OUTPUT_TOKENS_MAX, UNSUPPORTED, ChatRequest
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.wire import StreamWriter
from proxy.wire.openai_chat.endings import usage_of
from proxy.wire.openai_completions.endings import AS_SAID, AsSaid, shared_fields, stream_end
from proxy.wire.openai_completions.prompts import Prompt, count_prompts, read_prompts

PATH = "/v1/completions"
TRANSLATES = True
REQUEST_ID = "x-request-id"
FIELD_NAMES: Mapping[str, str] = {"messages": "prompt"}
PASSES: tuple[str, ...] = ()
KEEPS_MODEL = False

OUTPUT_TOKENS_DEFAULT = 16
"""OpenAI's, where a request sets no `max_tokens`."""

CHOICES_WHOLE_MAX = 2048
"""Over all prompts of a request that is not streamed: evaluations send some hundreds at once."""

_OWN = frozenset({"prompt", "best_of", "echo", "suffix", "logprobs", "max_tokens"})
"""What is said in another way in a chat, or cannot be."""

_SHARED = frozenset(
    {
        *("model", "n", "stop", "stream", "stream_options", "seed", "user", "metadata"),
        *("temperature", "top_p", "top_k", "min_p", "logit_bias", "response_format"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty"),
    }
)
"""What means the same in a chat. All else is refused there: `max_completion_tokens` would go past
the hold, which is made from `max_tokens`, and `models` past the model that is priced."""

_NAMED_MAX = 16
"""Of the other fields, as many are named to a client."""

_OTHER_LIMITS = (
    *("max_completion_tokens", "max_output_tokens", "max_new_tokens", "max_length"),
    *("max_gen_len", "max_tokens_to_sample", "n_predict", "num_predict"),
)
"""Names under which some server looks for a limit, some before `max_tokens`: llama.cpp, TGI,
Ollama. The hold knows `max_tokens` alone."""

_REASONS = {"tool_calls": "stop", "function_call": "stop"}
"""What completions have no finish reason for: they end where the model wanted to."""


def parse_request(raw: bytes) -> ChatRequest:
    """The request behind a body; InvalidRequest names the field that is wrong."""
    body = request_fields.load_object(raw)
    model = request_fields.model(body)
    prompts = read_prompts(body.get("prompt"))
    if prompts is None:
        raise InvalidRequest(
            "`prompt` must be a string, a list of strings, a list of tokens, or a list of lists of "
            "tokens.",
            param="prompt",
        )
    stream = request_fields.flag(body, "stream")
    n = request_fields.whole(body, "n", least=1, most=CHOICES_MAX) or 1
    best_of = request_fields.whole(body, "best_of", least=1, most=CHOICES_MAX) or n
    limit = request_fields.whole(body, "max_tokens", least=0, most=OUTPUT_TOKENS_MAX)
    output_limit = OUTPUT_TOKENS_DEFAULT if limit is None else limit
    _check_limits(body)
    _check(body, prompts, choices=n * len(prompts), stream=stream)
    return ChatRequest(
        model=model,
        body=body,
        stream=stream,
        wants_usage=request_fields.wants_usage(body),
        output_limit=output_limit,
        choices=n * len(prompts),
        candidates=max(n, best_of) * len(prompts),
        user=request_fields.user(body),
        format="openai_completions",
        as_chat=_as_chat(body, prompts, output_limit, is_best_of=best_of > n),
    )


def _check_limits(body: Mapping[str, Any]) -> None:
    for name in _OTHER_LIMITS:
        if body.get(name) is not None:
            raise InvalidRequest(
                f"Completions are limited by `max_tokens`: send that in place of `{name}`.",
                param=name,
            )


def _check(body: Mapping[str, Any], prompts: list[Prompt], *, choices: int, stream: bool) -> None:
    most = CHOICES_MAX if stream else CHOICES_WHOLE_MAX
    if choices > most:
        raise InvalidRequest(
            f"The prompts times `n` are {choices} choices; at most {most} are served at once.",
            param="prompt",
        )
    is_echoed = request_fields.flag(body, "echo")
    if stream and is_echoed and not all(isinstance(each, str) for each in prompts):
        # what is echoed is no output, and is told from it by its text
        raise InvalidRequest(
            "`echo` cannot be streamed for a prompt of tokens: send the prompt as text, or leave "
            "`stream` out.",
            param="echo",
        )
    suffix = body.get("suffix")
    if suffix is not None and not isinstance(suffix, str):
        raise InvalidRequest("`suffix` must be a string.", param="suffix")


def _as_chat(
    body: Mapping[str, Any], prompts: list[Prompt], output_limit: int, *, is_best_of: bool
) -> dict[str, Any]:
    """The same as a chat completion; what cannot be said there is named under `UNSUPPORTED`."""
    chat = {name: value for name, value in body.items() if name in _SHARED}
    is_plain = len(prompts) == 1 and isinstance(prompts[0], str)
    # Where the prompt cannot be said there is no conversation: an upstream that is asked all the
    # same, because `drop_unsupported` lets it be, refuses that. A part of it would be answered.
    chat["messages"] = [{"role": "user", "content": prompts[0]}] if is_plain else []
    chat["max_tokens"] = output_limit
    unsupported = {
        "prompt": not is_plain,
        "max_tokens": output_limit == 0,
        "best_of": is_best_of,
        "echo": bool(body.get("echo")),
        "suffix": bool(body.get("suffix")),
        "logprobs": body.get("logprobs") is not None and body["logprobs"] is not False,
    }
    named = [name for name, is_used in unsupported.items() if is_used]
    known = _SHARED | _OWN | {UNSUPPORTED}
    more = (name for name, value in body.items() if name not in known and value is not None)
    if named := [*named, *islice(more, _NAMED_MAX)]:
        chat[UNSUPPORTED] = named
    return chat


def prompt_tokens(request: ChatRequest, tokenizer: Tokenizer, model: str) -> int:
    """The prompts as this model counts them, without any frame, and the suffix."""
    prompts = read_prompts(request.body.get("prompt")) or []
    suffix = request.body.get("suffix")
    return count_prompts(tokenizer, [*prompts, suffix] if suffix else prompts)


def writer(request: ChatRequest) -> StreamWriter:
    """What writes the chunks that answer this request."""
    return TextWriter(wants_usage=request.wants_usage)


def write_whole(
    completion: dict[str, Any], units: Mapping[str, int], request: ChatRequest
) -> dict[str, Any]:
    """The completion with a text in place of each message, and its usage."""
    choices = completion.get("choices")
    written = _choices(choices if isinstance(choices, list) else [], "message")
    return {**shared_fields(completion), "choices": written, "usage": usage_of(units)}


def error_body(words: ErrorWords, request_id: str) -> bytes:
    """The refusal in OpenAI's shape."""
    return words.openai_body()


def error_event(words: ErrorWords, request_id: str) -> bytes:
    """The same as an event, for a stream whose status has long been sent."""
    return b"data: " + words.openai_body() + b"\n\n"


class TextWriter:
    """A stream of completion chunks."""

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._shared: dict[str, Any] = {}

    def write(self, chunk: dict[str, Any]) -> bytes:
        """The chunk's text as an event; nothing where it has neither text nor an end."""
        choices = chunk.get("choices")
        if chunk.get("error") or not isinstance(choices, list):
            return b""
        if "id" not in self._shared:
            self._shared = shared_fields(chunk)
        written = [
            each for each in _choices(choices, "delta") if each["text"] or each["finish_reason"]
        ]
        if not written:
            return b""
        return b"data: " + orjson.dumps({**self._shared, "choices": written}) + b"\n\n"

    def end(self, units: Mapping[str, int]) -> bytes:
        """The usage chunk where it was asked for, and `[DONE]`."""
        told = units if self._wants_usage else None
        return stream_end(self._shared, choices=(), units=told)


def _choices(choices: list[Any], part: str) -> list[dict[str, Any]]:
    """Each choice with what it says as a text."""
    written = []
    for position, choice in enumerate(choices):
        if not isinstance(choice, dict):
            continue
        text, logprobs = _said(choice, part)
        index, reason = choice.get("index"), choice.get("finish_reason")
        written.append(
            {
                "text": text,
                "index": index if type(index) is int else position,
                "logprobs": logprobs,
                "finish_reason": _REASONS.get(reason, reason) if isinstance(reason, str) else None,
            }
        )
    return written


def _said(choice: Mapping[str, Any], part: str) -> tuple[str, Any]:
    """Its own text if it was a completion, else that of its message: a refusal is one, too, and
    thinking is none."""
    own = choice.get(AS_SAID)
    if isinstance(own, AsSaid):
        return own
    said = choice.get(part)
    fields = said if isinstance(said, dict) else {}
    return _text(fields.get("content")) + _text(fields.get("refusal")), None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
