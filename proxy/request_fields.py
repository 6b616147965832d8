"""The fields that OpenAI's request bodies share, read and checked. Pure.

Each raises InvalidRequest that names the field; null is the same as not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from proxy import json_bounds
from proxy.errors import InvalidRequest

_USER_MAX = 256


def load_object(raw: bytes, *, values_max: int = json_bounds.VALUES_MAX) -> dict[str, Any]:
    """The JSON object that a body is, within the bounds of `proxy.json_bounds`."""
    if (fault := json_bounds.fault_in(raw, values_max)) is not None:
        raise InvalidRequest(fault)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def model(body: Mapping[str, Any]) -> str:
    """The name of the model that is asked for."""
    found = body.get("model")
    if not isinstance(found, str) or not found:
        raise InvalidRequest("`model` must be a non-empty string.", param="model")
    return found


def flag(body: Mapping[str, Any], name: str) -> bool:
    """A field that is true or false; false where it is not there."""
    value = body.get(name)
    if value is not None and type(value) is not bool:
        raise InvalidRequest(f"`{name}` must be true or false.", param=name)
    return bool(value)


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether the usage chunk of a stream is asked for."""
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("`stream_options` must be an object.", param="stream_options")
    return bool(options and options.get("include_usage"))


def user(body: Mapping[str, Any]) -> str | None:
    """The end user, cut to what an event takes."""
    found = body.get("user")
    if found is not None and not isinstance(found, str):
        raise InvalidRequest("`user` must be a string.", param="user")
    return found[:_USER_MAX] if found else None


def whole(body: Mapping[str, Any], name: str, *, least: int, most: int) -> int | None:
    """A whole number between two bounds; None where it is not there."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise InvalidRequest(f"`{name}` must be a whole number from {least} to {most}.", param=name)
    return value
