"""Refusals that have to do with answers that are kept; the tree is in `proxy.errors`."""

from __future__ import annotations

from proxy.errors import ApiError


class IdempotencyInFlight(ApiError):
    """A request with this `Idempotency-Key` is being answered; Retry-After says when to ask."""

    status = 409
    type = "invalid_request_error"
    code = "idempotency_in_flight"
    should_retry = True

    def headers(self) -> dict[str, str]:
        """Comes with Retry-After: most answers are over by then."""
        return {"Retry-After": "1", **super().headers()}


class IdempotencyNotReplayable(ApiError):
    """It was answered and billed, and the answer was not kept: it broke off, or was too large."""

    status = 409
    type = "invalid_request_error"
    code = "idempotency_not_replayable"
    should_retry = False


class IdempotencyMismatch(ApiError):
    """This `Idempotency-Key` came with another body before."""

    status = 422
    type = "invalid_request_error"
    code = "idempotency_mismatch"
    should_retry = False


class NotCached(ApiError):
    """`Cache-Control: only-if-cached`, and there is no answer."""

    status = 504
    type = "invalid_request_error"
    code = "not_cached"
    should_retry = False
