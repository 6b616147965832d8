"""OpenAI responses as clients speak them: their requests, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.prompt import count_prompt
from metering.tokenizer import Tokenizer
from proxy import request_fields
from proxy.chat import OUTPUT_TOKENS_MAX, ChatRequest
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.wire import StreamWriter
from proxy.wire.openai_responses.as_chat import say
from proxy.wire.openai_responses.events import event
from proxy.wire.openai_responses.writer import ResponseWriter

PATH = "/v1/responses"
TRANSLATES = True
REQUEST_ID = "x-request-id"
FIELD_NAMES: Mapping[str, str] = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
}
PASSES: tuple[str, ...] = ()
KEEPS_MODEL = False
FORMAT = "openai_responses"

CONTEXT_TOKENS_ASSUMED = 16_000
"""What is taken for each context that the vendor keeps and bills as input: a conversation of a
hundred turns. Only the vendor knows it before it reports; what is held too much is given back."""

TOOL_TOKENS_ASSUMED = 8_000
"""What is taken for each of the vendor's own tools, whose findings are billed as input: one web
search of a smaller model is billed as a block of that size."""

ITEM_TOKENS_ASSUMED = 500
"""What is taken for an item that is named by its id only: a message, or a call with its result."""

ENCRYPTED_BYTES_PER_TOKEN = 4
"""Of `encrypted_content`: four bytes of text are a token, and encoding makes them six."""

_TEXT_MAX = 256
_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "input": ((str, list), "a string or a list of items"),
    "instructions": ((str,), "a string"),
    "stream": ((bool,), "true or false"),
    "stream_options": ((dict,), "an object"),
    "background": ((bool,), "true or false"),
    "previous_response_id": ((str,), "a string"),
    "conversation": ((str, dict), "a string or an object"),
    "prompt": ((dict,), "an object"),
    "tools": ((list,), "a list"),
    "text": ((dict,), "an object"),
    "reasoning": ((dict,), "an object"),
    "include": ((list,), "a list"),
    "user": ((str,), "a string"),
    "safety_identifier": ((str,), "a string"),
}
_CONTEXTS = ("previous_response_id", "conversation", "prompt")


def parse_request(raw: bytes) -> ChatRequest:
    """The request behind a body; InvalidRequest names the field that is wrong."""
    body = request_fields.load_object(raw)
    model = request_fields.model(body)
    for name, (types, words) in _TYPES.items():
        value = body.get(name)
        if value is not None and type(value) not in types:
            raise InvalidRequest(f"`{name}` must be {words}.", param=name)
    if body.get("input") is None and all(body.get(name) is None for name in _CONTEXTS):
        raise InvalidRequest("`input` must be a string or a list of items.", param="input")
    if body.get("background"):
        raise InvalidRequest(
            "`background` is not served here: such a response is billed after it was answered, "
            "where its usage cannot be metered. Leave it out, and set `stream` for a long answer.",
            param="background",
        )
    user = body.get("user") or body.get("safety_identifier")
    return ChatRequest(
        model=model,
        body=body,
        stream=bool(body.get("stream")),
        wants_usage=True,
        output_limit=_output_limit(body),
        choices=1,
        candidates=1,
        user=user[:_TEXT_MAX] if user else None,
        format=FORMAT,
        as_chat=say(body).chat,
    )


def _output_limit(body: Mapping[str, Any]) -> int | None:
    value = body.get("max_output_tokens")
    if value is not None and (type(value) is not int or not 1 <= value <= OUTPUT_TOKENS_MAX):
        raise InvalidRequest(
            f"`max_output_tokens` must be a whole number from 1 to {OUTPUT_TOKENS_MAX}.",
            param="max_output_tokens",
        )
    return value


def prompt_tokens(request: ChatRequest, tokenizer: Tokenizer, model: str) -> int:
    """The prompt as this model counts it, estimated; what is kept by the vendor is assumed."""
    said = say(request.body)
    messages = said.chat["messages"]
    if said.unsaid:
        messages = [*messages, {"role": "user", "content": said.unsaid}]
    counted = count_prompt(tokenizer, {**said.chat, "messages": messages, "model": model})
    return counted + assumed_tokens(request.body)


def assumed_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of input that are not in the request: contexts and items that the vendor keeps, what
    its own tools will find, reasoning that only it can read."""
    tokens = CONTEXT_TOKENS_ASSUMED * sum(body.get(name) is not None for name in _CONTEXTS)
    for tool in _objects(body.get("tools")):
        if tool.get("type") not in ("function", "custom"):
            tokens += TOOL_TOKENS_ASSUMED
    for item in _objects(body.get("input")):
        if item.get("type") == "item_reference" or set(item) == {"id"}:
            tokens += ITEM_TOKENS_ASSUMED
        elif item.get("type") == "reasoning" and isinstance(item.get("encrypted_content"), str):
            tokens += len(item["encrypted_content"]) // ENCRYPTED_BYTES_PER_TOKEN
    return tokens


def _objects(values: Any) -> list[dict[str, Any]]:
    found = values if isinstance(values, list) else []
    return [each for each in found if isinstance(each, dict)]


def writer(request: ChatRequest) -> StreamWriter:
    """What writes the events that answer this request."""
    return ResponseWriter(request)


def write_whole(
    completion: dict[str, Any], units: Mapping[str, int], request: ChatRequest
) -> dict[str, Any]:
    """The response object: what a stream that said all at once would have ended with."""
    whole = ResponseWriter(request)
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, dict):
        choice = {**choice, "index": 0, "delta": choice.get("message")}
    whole.write({**completion, "choices": [] if choice is None else [choice]})
    return whole.finish(units)


def error_body(words: ErrorWords, request_id: str) -> bytes:
    """The refusal in OpenAI's shape."""
    return words.openai_body()


def error_event(words: ErrorWords, request_id: str) -> bytes:
    """The same as an event, for a stream whose status has long been sent.

    The fields stand twice: beside `type`, as OpenAI documents it, and under `error`, as it sends
    them, which is where its libraries look before they raise. Where in the stream this comes is not
    known here, so its number is 0.
    """
    error: dict[str, Any] = {
        "type": words.type,
        "code": words.code,
        "message": words.message,
        "param": words.param,
    }
    if words.metadata:
        error["metadata"] = dict(words.metadata)
    flat = {"code": words.code, "message": words.message, "param": words.param}
    return event("error", 0, **flat, error=error)
