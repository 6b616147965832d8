"""What a request says that is relayed as it is: its model, how many, whose objects. Pure.

Rules: the bytes go on untouched, so nothing may stand in them that the upstream could read in
another way than we: no key twice, no second spelling of `model`. Every id of an object is found,
wherever it stands, but for the texts that the provider never looks into (`metadata`, schemas).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy import json_bounds
from proxy.errors import InvalidRequest
from proxy.multipart import Form, read_form

REFERENCES = frozenset(
    {
        "assistant_id",
        "batch_id",
        "container",
        "container_id",
        "conversation",
        "conversation_id",
        "eval_id",
        "file_id",
        "file_ids",
        "fine_tuning_job_id",
        "input_file_id",
        "previous_response_id",
        "response_id",
        "thread_id",
        "training_file",
        "upload_id",
        "validation_file",
        "vector_store_id",
        "vector_store_ids",
        "video_id",
    }
)
"""Fields that name objects at the provider."""

OPAQUE = frozenset({"metadata", "parameters", "schema", "input_schema", "item_schema"})
"""Fields whose content the provider keeps, and does not act on."""

_NAMED_BY_ID = frozenset({"file_id", "item_reference"})
"""Types of things whose `id` names an object."""

WHOLE_ACCOUNT = frozenset({"logs", "stored_completions", "responses"})
"""Types of sources that read what everybody has stored in the account."""

REFERENCES_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Sent:
    """A request's body. `references` are the ids in it, `sources` the types in it that read from
    the whole account."""

    raw: bytes = b""
    model: str | None = None
    user: str | None = None
    is_stream: bool = False
    is_background: bool = False
    references: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    form: Form | None = None
    body: dict[str, Any] = field(default_factory=dict)

    def count(self, name: str, usual: int) -> int:
        """The number under a field, of at most three digits; InvalidRequest for another."""
        said: object = self.body.get(name)
        if self.form is not None:
            said = self.form.value(name)
        if said is None:
            return usual
        text = said if isinstance(said, str) else str(said)
        if isinstance(said, bool) or not (text.isascii() and text.isdigit() and len(text) <= 3):
            raise InvalidRequest(f"`{name}` must be a whole number from 1 to 999.", param=name)
        return max(1, int(text))

    def with_model(self, name: str) -> bytes:
        """The body for a model of that name: as it came where that is the name in it."""
        if name == self.model:
            return self.raw
        if self.form is not None:
            return self.form.replaced("model", name)
        return orjson.dumps({**self.body, "model": name})


NOTHING_SENT = Sent()


def read_sent(raw: bytes, content_type: str) -> Sent:
    """The body of a request; InvalidRequest when it is neither JSON nor a form, or is ambiguous."""
    kind = content_type.partition(";")[0].strip().lower()
    if not raw:
        return NOTHING_SENT
    if kind == "multipart/form-data":
        return _form(read_form(raw, content_type))
    if kind == "application/json":
        return _json(raw)
    raise InvalidRequest(
        "Send the body as `application/json` or `multipart/form-data`.", param="Content-Type"
    )


def references(body: object) -> Iterator[str]:
    """The ids of objects that this JSON value names, anywhere in it."""
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            kind, own = value.get("type"), value.get("id")
            if isinstance(kind, str) and kind in _NAMED_BY_ID and isinstance(own, str):
                yield own
            for name, inner in value.items():
                if name in REFERENCES:
                    yield from _ids(inner)
                if name not in OPAQUE and isinstance(inner, dict | list):
                    waiting.append(inner)


def _ids(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, str):
                yield each
    elif isinstance(value, dict) and isinstance(value.get("id"), str):
        yield value["id"]  # {"conversation": {"id": ...}}


def _sources(body: object) -> Iterator[str]:
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            kind = value.get("type")
            if isinstance(kind, str) and kind in WHOLE_ACCOUNT:
                yield kind
            waiting += [each for each in value.values() if isinstance(each, dict | list)]


def _json(raw: bytes) -> Sent:
    fault = json_bounds.fault_in(raw)
    if fault is not None:
        raise InvalidRequest(fault)
    try:
        orjson.loads(raw)  # strict: no NaN, no broken UTF-8, nothing behind it
        body = json.loads(raw, object_pairs_hook=_once)
    except (orjson.JSONDecodeError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    for name in body:
        if name != "model" and name.casefold() == "model":
            raise InvalidRequest("Write `model` in small letters.", param="model")
    found = tuple(dict.fromkeys(references(body)))
    _check_few(found)
    return Sent(
        raw=raw,
        model=_name(body.get("model"), "model"),
        user=_name(body.get("user"), "user"),
        is_stream=body.get("stream") is True,
        is_background=body.get("background") is True,
        references=found,
        sources=tuple(_sources(body)),
        body=body,
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"The key `{twice[:100]}` comes twice in one object.", param=None)
    return found


def _form(form: Form) -> Sent:
    for name in form.names():
        if name != "model" and name.casefold() == "model":
            raise InvalidRequest("Write `model` in small letters.", param="model")
    found = tuple(
        dict.fromkeys(value for name in sorted(REFERENCES) for value in form.values(name) if value)
    )
    _check_few(found)
    return Sent(
        raw=form.raw,
        model=_name(form.value("model"), "model"),
        user=_name(form.value("user"), "user"),
        is_stream=(form.value("stream") or "").lower() in ("true", "1"),
        references=found,
        form=form,
    )


def _check_few(found: tuple[str, ...]) -> None:
    if len(found) > REFERENCES_MAX:
        raise InvalidRequest(f"The body names more than {REFERENCES_MAX} objects.")


def _name(value: object, param: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 256 or not value.isprintable():
        raise InvalidRequest(
            f"`{param}` must be text of at most 256 printable characters.", param=param
        )
    return value
