"""OpenAI's embeddings as clients speak them: their requests, and the errors they get.

There is no output to hold or to count, and nothing is streamed. The vectors pass as they come, so
an answer is never written anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metering.tokenizer import Tokenizer
from proxy import request_fields
from proxy.chat import ChatRequest
from proxy.error_words import ErrorWords
from proxy.errors import InvalidRequest
from proxy.wire import StreamWriter
from proxy.wire.openai_completions.prompts import count_prompts, read_prompts

PATH = "/v1/embeddings"
TRANSLATES = False
REQUEST_ID = "x-request-id"
FIELD_NAMES: Mapping[str, str] = {}
PASSES: tuple[str, ...] = ()
KEEPS_MODEL = True

VALUES_MAX = 500_000
"""Of JSON in a request: OpenAI takes 300,000 tokens in one, which LangChain sends as numbers, and
numbers build in a tenth of the time that objects need."""

DIMENSIONS_MAX = 1_000_000
_ENCODINGS = ("float", "base64")


def parse_request(raw: bytes) -> ChatRequest:
    """The request behind a body; InvalidRequest names the field that is wrong."""
    body = request_fields.load_object(raw, values_max=VALUES_MAX)
    model = request_fields.model(body)
    if read_prompts(body.get("input")) is None:
        raise InvalidRequest(
            "`input` must be a string, a list of strings, a list of tokens, or a list of lists of "
            "tokens.",
            param="input",
        )
    if request_fields.flag(body, "stream"):
        raise InvalidRequest("Embeddings are not streamed; leave `stream` out.", param="stream")
    request_fields.whole(body, "dimensions", least=1, most=DIMENSIONS_MAX)
    encoding = body.get("encoding_format")
    if encoding is not None and encoding not in _ENCODINGS:
        raise InvalidRequest(
            "`encoding_format` must be `float` or `base64`.", param="encoding_format"
        )
    return ChatRequest(
        model=model,
        body=body,
        stream=False,
        wants_usage=False,
        output_limit=0,
        choices=1,
        candidates=1,
        user=request_fields.user(body),
        format="openai_embeddings",
        as_chat={"model": model, "messages": []},
    )


def prompt_tokens(request: ChatRequest, tokenizer: Tokenizer, model: str) -> int:
    """The inputs as this model counts them, without any frame."""
    return count_prompts(tokenizer, read_prompts(request.body.get("input")) or [])


def writer(request: ChatRequest) -> StreamWriter:
    """Never asked for: see `TRANSLATES`, and `parse_request` refuses streams."""
    raise AssertionError("embeddings are not streamed")


def write_whole(
    completion: dict[str, Any], units: Mapping[str, int], request: ChatRequest
) -> dict[str, Any]:
    """Never asked for: see `TRANSLATES`."""
    raise AssertionError("embeddings are relayed as they came")


def error_body(words: ErrorWords, request_id: str) -> bytes:
    """The refusal in OpenAI's shape."""
    return words.openai_body()


def error_event(words: ErrorWords, request_id: str) -> bytes:
    """The same as an event."""
    return b"data: " + words.openai_body() + b"\n\n"
