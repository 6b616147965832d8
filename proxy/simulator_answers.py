"""What the simulator says, and what it counts: text, tool calls, usage, chunks. Pure.

The answer depends on nothing but the request, so two runs of a test see the same bytes (but for
ids and times, which are arguments).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import tiktoken

from metering.counter import SLICE
from metering.tokenizer import count_text
from proxy.simulator_faults import Behaviour, usage_numbers

Json = dict[str, Any]

CHOICES_MAX = 16

_QUOTED_CHARACTERS_MAX = 80

_SENTENCES = (
    "A weir is a low dam that measures a stream while it lets the water pass.",
    "Every token of this answer was counted as it went by.",
    "Nothing here was thought up by a model: the words come from a short list.",
    "The same question gets the same answer, which is dull but easy to test.",
    "Rivers do not stop at a weir, and neither should your requests.",
    "Money is counted in whole nano-dollars, so that sums always agree.",
    "Naïve counters trip over words such as café, Größe, 東京 or 🌊; this one should not.",
    "Ask again with another model name to see how a provider fails.",
    "Small streams make large rivers, and small requests make large invoices.",
    "If a cap comes near, a cheaper model can answer in place of a dear one.",
)


class BadRequestError(Exception):
    """The request is not one that OpenAI would answer; the message says what is wrong."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def tier_of(request: Json) -> str:
    """The service tier that serves a request: the one it asks for, else the usual one."""
    asked = request.get("service_tier")
    if asked is None or asked == "auto":
        return "default"
    if not isinstance(asked, str):
        raise BadRequestError("Invalid type for 'service_tier': expected a string.", "service_tier")
    return asked


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call: the name of the tool and its arguments as JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers: either pieces of text or a call, and why it ended."""

    pieces: tuple[str, ...]
    call: Call | None
    tokens: int
    finish_reason: str

    @property
    def text(self) -> str:
        """All the pieces in one."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that one request is answered with."""

    choices: tuple[Choice, ...]
    prompt_tokens: int
    behaviour: Behaviour

    @property
    def completion_tokens(self) -> int:
        """Of all choices, hidden reasoning included, as OpenAI counts."""
        return sum(each.tokens for each in self.choices) + self.behaviour.reasoning_tokens

    def usage(self, completion: int | None = None) -> Json:
        """The usage object, as true as the behaviour wants it."""
        true_completion = self.completion_tokens if completion is None else completion
        claimed = usage_numbers(self.behaviour.usage, self.prompt_tokens, true_completion)
        prompt_tokens, completion_tokens = claimed
        total = (
            prompt_tokens + completion_tokens
            if isinstance(prompt_tokens, int) and isinstance(completion_tokens, int)
            else str(self.prompt_tokens + true_completion)
        )
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": total,
            "prompt_tokens_details": {
                "cached_tokens": int(self.prompt_tokens * self.behaviour.cached_share),
                "audio_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": self.behaviour.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def answer(request: Json, behaviour: Behaviour, encoding: tiktoken.Encoding) -> Answer:
    """The answer to a request of /v1/chat/completions; BadRequestError when it is none."""
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("'messages' must be an array of at least one message.", "messages")
    count = 1 if request.get("n") is None else request["n"]
    if not isinstance(count, int) or not 1 <= count <= CHOICES_MAX:
        raise BadRequestError(f"'n' must be between 1 and {CHOICES_MAX}.", "n")
    limit = request.get("max_completion_tokens")
    limit = request.get("max_tokens") if limit is None else limit
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise BadRequestError("'max_tokens' must be an integer of at least 1.", "max_tokens")
    prompt = _last_text(messages)
    call = _call(request, behaviour, prompt)
    choices = tuple(
        _calling(call, encoding)
        if call is not None
        else speaking(prompt, index, limit, behaviour, encoding)
        for index in range(count)
    )
    return Answer(choices, _prompt_tokens(request, messages, encoding), behaviour)


def pieces(tokens: list[int], encoding: tiktoken.Encoding) -> Iterator[str]:
    """The text of each token; one that ends inside a character is held back for the next."""
    held = b""
    for token in tokens:
        held += encoding.decode_single_token_bytes(token)
        try:
            yield held.decode()
        except UnicodeDecodeError:
            continue
        held = b""


def speaking(
    prompt: str, index: int, limit: int | None, behaviour: Behaviour, encoding: tiktoken.Encoding
) -> Choice:
    """One answer in words, of as many tokens as the limit allows."""
    tokens = encoding.encode_ordinary(_text(prompt, index))
    if behaviour.tokens is not None:
        repeats = -(-behaviour.tokens // len(tokens))
        tokens = (tokens * repeats)[: behaviour.tokens]
    is_cut = limit is not None and limit < len(tokens)
    if is_cut:
        tokens = tokens[:limit]
    spoken = tuple(pieces(tokens, encoding))
    return Choice(spoken, None, len(tokens), "length" if is_cut else "stop")


def _calling(call: Call, encoding: tiktoken.Encoding) -> Choice:
    # property names and enums are the client's: of any length, so never in one call into tiktoken
    tokens = [
        token
        for at in range(0, len(call.arguments), SLICE)
        for token in encoding.encode_ordinary(call.arguments[at : at + SLICE])
    ]
    counted = count_text(encoding, call.arguments) + count_text(encoding, call.name)
    return Choice(tuple(pieces(tokens, encoding)), call, counted, "tool_calls")


def _text(prompt: str, index: int) -> str:
    digest = hashlib.sha256(f"{index}:{prompt}".encode()).digest()
    quoted = " ".join(prompt.split())
    if len(quoted) > _QUOTED_CHARACTERS_MAX:
        quoted = quoted[:_QUOTED_CHARACTERS_MAX] + "..."
    start, step = digest[0], 1 + 2 * (digest[1] % 2)  # 1 or 3: no sentence comes twice
    chosen = [_SENTENCES[(start + step * at) % len(_SENTENCES)] for at in range(4)]
    return " ".join([f'You said "{quoted}".', *chosen])


def _last_text(messages: list[Any]) -> str:
    for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("role") == "user":
            return _content_text(message.get("content"))
    return ""


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping)]
        return " ".join(str(part["text"]) for part in parts if "text" in part)
    return ""


def _prompt_tokens(request: Json, messages: list[Any], encoding: tiktoken.Encoding) -> int:
    """OpenAI's published rule for messages, 3 for each and 3 for the reply; tools as their JSON."""
    total = 3
    for message in messages:
        total += 3
        if isinstance(message, Mapping):
            total += count_text(encoding, str(message.get("role", "")))
            total += count_text(encoding, _content_text(message.get("content")))
    tools = request.get("tools")
    if tools:
        total += count_text(encoding, orjson.dumps(tools).decode())
    return total


def _call(request: Json, behaviour: Behaviour, prompt: str) -> Call | None:
    tools = request.get("tools")
    wanted = request.get("tool_choice")
    if not isinstance(tools, list) or not tools or wanted == "none":
        return None
    functions = [tool["function"] for tool in tools if isinstance(tool.get("function"), Mapping)]
    if isinstance(wanted, Mapping):
        name = dict(wanted.get("function") or {}).get("name")
        functions = [each for each in functions if each.get("name") == name]
        if not functions:
            raise BadRequestError(f"'tool_choice' names no tool of 'tools': {name}", "tool_choice")
    elif wanted != "required" and not behaviour.calls_tools:
        return None
    if not functions:
        raise BadRequestError("'tools' holds no function.", "tools")
    chosen = functions[0]
    arguments = _example(chosen.get("parameters") or {}, prompt, depth=4)
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:24]
    return Call(f"call_{digest}", str(chosen.get("name")), orjson.dumps(arguments).decode())


def _example(schema: Mapping[str, Any], prompt: str, *, depth: int) -> Any:
    """A value that a JSON schema allows; strings repeat what the user said."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object" and depth > 0:
        properties = schema.get("properties") or {}
        return {name: _example(each, prompt, depth=depth - 1) for name, each in properties.items()}
    simple: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "array": []}
    return simple.get(kind, prompt[:_QUOTED_CHARACTERS_MAX]) if kind != "object" else {}
