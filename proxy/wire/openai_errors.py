"""What an OpenAI-compatible server means by an answer other than 200."""

from __future__ import annotations

import orjson

from routing.fallback import Outcome

_QUOTA_CODES = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"}
)


def classify_error(status: int, body: bytes) -> Outcome:
    """What an answer other than 200 means for the next step; the body tells quota from rate."""
    if status in {401, 403}:
        return Outcome.AUTH
    if status == 402:
        return Outcome.QUOTA
    if status == 429:
        return Outcome.QUOTA if _error_code(body) in _QUOTA_CODES else Outcome.RATE_LIMITED
    if 500 <= status <= 599 or status == 408:
        return Outcome.SERVER_ERROR
    return Outcome.REFUSED if 400 <= status < 500 else Outcome.NONSENSE  # 2xx, 3xx, beyond 599


def _error_code(body: bytes) -> str | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    code = error.get("code") or error.get("type") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None
