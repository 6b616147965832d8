"""What a payment provider that calls us back can be told. Part of the tree in `errors`."""

from __future__ import annotations

from proxy.errors import ApiError, InvalidRequest


class InvalidSignature(InvalidRequest):
    """The request was not signed by the provider, or not just now."""

    code = "invalid_signature"


class CallbackNotTaken(ApiError):
    """Redis is away, so it could not be kept; the provider sends it again."""

    status = 503
    type = "api_error"
    code = "callback_not_taken"
    should_retry = True
