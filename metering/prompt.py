"""How many tokens a chat request's prompt will be: an estimate, made before anyone has counted.

The framing of messages and tools is OpenAI's as it could be measured from outside: equal to the API
on every recorded request to gpt-3.5 and gpt-4o, and unmeasured on later models and other makers.

A body is taken as it came. What has the wrong type costs nothing and raises nothing, and text is
counted wherever it may reach the model. Time grows with the length of the body only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tiktoken import Encoding

from metering.images import ASSUMED_SIZE, ImageRule, image_size, image_tokens
from metering.media import UNSEEN_TOKENS, inline, media_tokens, sound_tokens
from metering.schema_text import leaves, minified, render_tools
from metering.tokenizer import Tokenizer, count_text

_PER_MESSAGE = 3
_PER_NAME = 1
_PER_CALL = 3
_PRIMING = 3  # the answer is opened with its role
_TOOLS = 9
_TOOLS_IN_SYSTEM = -4  # tools share the frame of the first system message, which gets a newline
_FUNCTION_ROLE = -2
_CHOICE_NONE = 1
_CHOICE_NAMED = 4
_SCHEMA = 8  # a guess: nobody has published how response_format is rendered

_SYSTEM_ROLES = ("system", "developer")
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_FILE_PARTS = ("file", "input_file", "document", "video_url", "input_video", "video")
_TEXT_KINDS = ("text/", "application/json", "application/xml")


def count_prompt(
    tokenizer: Tokenizer, body: Mapping[str, Any], image_tokens: ImageRule = image_tokens
) -> int:
    """Estimated prompt tokens of an OpenAI chat body, in the model's own tokens, rounded up.

    `image_tokens` says what an image of a size costs; it is given the body's own `model`, so price
    a body as it will be sent. Blocks 50 to 400 ms per megabyte: give a long one to a thread.
    """
    prompt = _Prompt(tokenizer, body, image_tokens)
    return prompt.count()


class _Prompt:
    """One count in progress: text in the encoding's tokens, media in the model's."""

    def __init__(self, tokenizer: Tokenizer, body: Mapping[str, Any], rule: ImageRule) -> None:
        self._tokenizer = tokenizer
        self._body = body
        self._rule = rule
        self._model = _text(body.get("model"))
        self._media = 0  # not text, so no factor applies

    def count(self) -> int:
        messages = [_mapping(message) for message in _items(self._body.get("messages"))]
        tools = [_tool(tool) for tool in _items(self._body.get("tools"))]
        tools += [_mapping(function) for function in _items(self._body.get("functions"))]
        first_system = next(
            (i for i, message in enumerate(messages) if message.get("role") in _SYSTEM_ROLES), -1
        )
        tokens = _PRIMING
        for i, message in enumerate(messages):
            tokens += self._message(message, end="\n" if tools and i == first_system else "")
        if tools:
            tokens += self._tokens(render_tools(tools)) + _TOOLS
            tokens += _TOOLS_IN_SYSTEM if first_system >= 0 else 0
        tokens += self._tool_choice() + self._response_format()
        return self._tokenizer.scale(tokens) + self._media

    def _message(self, message: Mapping[str, Any], *, end: str) -> int:
        role = _text(message.get("role"))
        tokens = _PER_MESSAGE + self._role(role) + self._content(message.get("content"), end=end)
        if name := _text(message.get("name")):
            tokens += _PER_NAME + self._tokens(name)
        if role == "function":
            tokens += _FUNCTION_ROLE
        for shown in ("refusal", "reasoning_content", "reasoning"):
            tokens += self._tokens(_text(message.get(shown)))
        calls = [_tool(call) for call in _items(message.get("tool_calls"))]
        if message.get("function_call"):
            calls.append(_mapping(message["function_call"]))
        for call in calls:
            said = _text(call.get("arguments")) or _text(call.get("input"))
            tokens += _PER_CALL + self._tokens(_text(call.get("name"))) + self._tokens(said)
        return tokens

    def _role(self, role: str) -> int:
        """Roles are few and short: counted once per encoding."""
        if role not in _ROLES:
            return self._tokens(role)
        return _role_tokens(self._tokenizer.encoding, role)

    def _content(self, content: object, *, end: str) -> int:
        if isinstance(content, str):
            return self._tokens(content + end)
        return sum(self._part(part) for part in _items(content))

    def _part(self, part: object) -> int:
        """Tokens of a content part's text; what its image, sound or file costs is set aside."""
        if isinstance(part, str):
            return self._tokens(part)
        fields = _mapping(part)
        kind = _text(fields.get("type"))
        if "image" in kind:
            self._media += self._image(fields)
        elif kind in ("input_audio", "audio_url"):
            self._media += self._sound(_mapping(fields.get(kind)))
        elif kind in _FILE_PARTS:
            return self._file(fields, kind)
        elif isinstance(fields.get("text"), str):
            return self._tokens(fields["text"])
        else:
            said = (leaf for key, leaf in leaves(fields) if key != "type")
            return self._tokens("\n".join(leaf for leaf in said if not leaf.startswith("data:")))
        return 0

    def _sound(self, sound: Mapping[str, Any]) -> int:
        found = inline(_text(sound.get("data")) or _text(sound.get("url")))
        if found is None:
            return UNSEEN_TOKENS if sound.get("url") else 0
        form = _text(sound.get("format")) or found.kind.partition("/")[2]
        return sound_tokens(self._model, found.raw, form)

    def _file(self, part: Mapping[str, Any], kind: str) -> int:
        """Tokens of a document's text; what its pages, its sound or its pictures cost is set aside.

        OpenAI has the data under `file`, `video_url` or beside the type, Anthropic under `source`.
        """
        own, source = _mapping(part.get(kind)) or part, _mapping(part.get("source"))
        if source.get("type") == "text":
            return self._tokens(_text(source.get("data")))
        if isinstance(content := source.get("content"), str | list):
            return self._content(content, end="")
        data = _text(own.get("file_data")) or _text(own.get("url")) or _text(source.get("data"))
        found = inline(data, _text(source.get("media_type")))
        if found is None:
            self._media += UNSEEN_TOKENS
        elif (tokens := media_tokens(self._model, found, self._rule)) is not None:
            self._media += tokens
        elif found.kind.startswith(_TEXT_KINDS):
            return self._tokens(found.raw.decode(errors="replace"))
        else:
            self._media += min(UNSEEN_TOKENS, len(found.raw))
        return 0

    def _image(self, part: Mapping[str, Any]) -> int:
        """By the size in its header if the image is in the request; it is never fetched."""
        image = part.get("image_url")
        fields = part if isinstance(image, str) else _mapping(image)
        source = image if isinstance(image, str) else _text(fields.get("url"))
        inline = source or _text(_mapping(part.get("source")).get("data"))
        width, height = image_size(inline) or ASSUMED_SIZE
        return self._rule(self._model, width, height, _text(fields.get("detail")) or "auto")

    def _tool_choice(self) -> int:
        choice = self._body.get("tool_choice") or self._body.get("function_call")
        if choice == "none":
            return _CHOICE_NONE
        if isinstance(choice, Mapping):
            return _CHOICE_NAMED + self._tokens(_text(_tool(choice).get("name")))
        return 0

    def _response_format(self) -> int:
        wanted = _mapping(self._body.get("response_format"))
        if wanted.get("type") != "json_schema":
            return 0
        return _SCHEMA + self._tokens(minified(wanted.get("json_schema")))

    def _tokens(self, text: str) -> int:
        return count_text(self._tokenizer.encoding, text) if text else 0


@cache
def _role_tokens(encoding: Encoding, role: str) -> int:
    return count_text(encoding, role)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    # asking an abstract class takes longer than all the rest here, and JSON knows dicts only
    return value if value.__class__ is dict or isinstance(value, Mapping) else {}


def _tool(value: object) -> Mapping[str, Any]:
    """A tool, call or choice without the wrapper that names its kind."""
    fields = _mapping(value)
    for kind in ("function", "custom"):
        if isinstance(fields.get(kind), Mapping):
            return _mapping(fields[kind])
    return fields
