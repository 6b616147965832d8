"""Bedrock as AWS does it: events packed into frames, and requests signed once more."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from proxy.vendors.bedrock.sigv4 import Keys


def frame(payload: bytes, headers: Mapping[str, str]) -> bytes:
    """One frame with these headers, which are text."""
    block = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack("!H", len(value))
        + value.encode()
        for name, value in headers.items()
    )
    head = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    head += struct.pack("!I", zlib.crc32(head))
    whole = head + block + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


def event(kind: str, said: Any) -> bytes:
    """An ordinary event."""
    return frame(
        orjson.dumps(said),
        {":event-type": kind, ":content-type": "application/json", ":message-type": "event"},
    )


def exception(kind: str, message: str) -> bytes:
    """An exception in the middle of a stream, whose shape is known."""
    return frame(
        orjson.dumps({"message": message}),
        {
            ":exception-type": kind,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
    )


def error(code: str, message: str) -> bytes:
    """An error whose shape is not known: all of it stands in the headers."""
    return frame(b"", {":message-type": "error", ":error-code": code, ":error-message": message})


def packed(events: Iterable[Mapping[str, Any]]) -> bytes:
    """A stream of events, each an object with its type as its only name."""
    return b"".join(_packed(kind, said) for each in events for kind, said in each.items())


def _packed(kind: str, said: Any) -> bytes:
    if kind == "exception":
        return exception(said["type"], said["message"])
    return event(kind, said)


def resigned(url: str, headers: Mapping[str, str], body: bytes, keys: Keys, region: str) -> str:
    """The `Authorization` that botocore gives the same request, at the time that stands in it."""
    signed = headers["authorization"].split("SignedHeaders=")[1].partition(",")[0].split(";")
    request = AWSRequest(
        "POST",
        url,
        data=body,
        headers={name: headers[name] for name in signed},
    )
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(
        Credentials(keys.access_key_id, keys.secret_access_key, keys.token), "bedrock", region
    )
    text = signer.string_to_sign(request, signer.canonical_request(request))
    names = signer.signed_headers(signer.headers_to_sign(request))
    scope = signer.scope(request)
    signature = signer.signature(text, request)
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"
