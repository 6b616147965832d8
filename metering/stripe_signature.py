"""Whether a request was signed by Stripe: the header `Stripe-Signature` over the body's bytes.

Rules: the bytes as they came, never what was read out of them; every secret is tried, so that one
can be replaced without a gap; comparisons take the same time whatever they find; an old signature
is refused, so that nobody can send a request again later. Messages hold no secret and no signature.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

TOLERANCE_S = 300
"""How far the time of a signature may be from ours, before or after: as in Stripe's own SDK."""

_SCHEME = "v1"
_PARTS_MAX = 32
"""Stripe sends one signature for each secret that is valid, two at most while one is rolled."""


class BadSignatureError(ValueError):
    """It is not Stripe's, not whole, or not of now; the message says which."""


def verify_signature(body: bytes, header: str, secrets: Sequence[str], *, now_s: int) -> None:
    """BadSignatureError unless one of the `secrets` signed this body within the tolerance."""
    at, signatures = _read(header)
    expected = [_sign(body, secret, at) for secret in secrets]
    found = [hmac.compare_digest(given, own) for given in signatures for own in expected]
    if not any(found):
        raise BadSignatureError("no signature of it is by a secret that is known here")
    if abs(now_s - int(at)) > TOLERANCE_S:
        raise BadSignatureError(
            f"it was signed {now_s - int(at)} s ago, and {TOLERANCE_S} are borne with"
        )


def sign(body: bytes, secret: str, *, at_s: int) -> str:
    """The header that Stripe would send with this body."""
    return f"t={at_s},{_SCHEME}={_sign(body, secret, str(at_s)).decode()}"


def _read(header: str) -> tuple[str, list[bytes]]:
    """The time as it was signed, and the signatures of our scheme; others are passed over."""
    times, signatures = [], []
    for part in header.split(",", _PARTS_MAX):
        name, _, value = part.strip().partition("=")
        if name == "t":
            times.append(value)
        elif name == _SCHEME:
            signatures.append(value.encode("utf-8", "replace"))
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal() and len(times[0]) < 16):
        raise BadSignatureError("the header Stripe-Signature has no time `t`")
    if not signatures:
        raise BadSignatureError(f"the header Stripe-Signature has no signature `{_SCHEME}`")
    return times[0], signatures


def _sign(body: bytes, secret: str, at: str) -> bytes:
    signed = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256)
    return signed.hexdigest().encode()
