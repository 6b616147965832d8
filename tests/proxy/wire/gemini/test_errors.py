"""Gemini's errors: what each means for the next step, and what the client reads."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.gemini.errors import classify_error, read_error
from routing.fallback import Outcome


def told(code: int, status: str, message: str = "No.", *details: dict[str, Any]) -> bytes:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return orjson.dumps({"error": {**error, "details": list(details)} if details else error})


def reason(name: str, **metadata: str) -> dict[str, Any]:
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": name, "domain": "googleapis.com", "metadata": metadata}


def quota(name: str, value: str = "20") -> dict[str, Any]:
    kind = "type.googleapis.com/google.rpc.QuotaFailure"
    return {"@type": kind, "violations": [{"quotaId": name, "quotaValue": value}]}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}
HELP = {"@type": "type.googleapis.com/google.rpc.Help", "links": []}
PLAN = "You exceeded your current quota, please check your plan and billing details."
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
EXHAUSTED = "RESOURCE_EXHAUSTED"
BAD = "INVALID_ARGUMENT"

TOO_LONG = "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)."

CASES = {
    "wrong_argument": (400, told(400, BAD), Outcome.REFUSED),
    "wrong_key": (
        400,
        told(400, BAD, "API key not valid.", reason("API_KEY_INVALID")),
        Outcome.AUTH,
    ),
    "wrong_country": (
        400,
        told(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
        Outcome.AUTH,
    ),
    "precondition": (400, told(400, "FAILED_PRECONDITION", "Empty."), Outcome.REFUSED),
    "unauthenticated": (401, told(401, "UNAUTHENTICATED"), Outcome.AUTH),
    "forbidden": (403, told(403, "PERMISSION_DENIED"), Outcome.AUTH),
    "unpaid": (
        403,
        told(403, "PERMISSION_DENIED", "Pay.", reason("BILLING_DISABLED")),
        Outcome.QUOTA,
    ),
    "nothing_there": (404, told(404, "NOT_FOUND"), Outcome.REFUSED),
    "no_such_model": (
        404,
        told(404, "NOT_FOUND", "models/gemini-none is not found for API version v1beta"),
        Outcome.UNKNOWN_MODEL,
    ),
    "no_such_model_at_vertex": (
        404,
        told(404, "NOT_FOUND", "Publisher Model `projects/p/models/x` was not found."),
        Outcome.UNKNOWN_MODEL,
    ),
    "too_long": (400, told(400, BAD, TOO_LONG), Outcome.CONTEXT_TOO_LONG),
    "blocked": (
        400,
        told(400, BAD, "The prompt could not be submitted. It may violate our policy."),
        Outcome.CONTENT_POLICY,
    ),
    "no_such_path": (404, b"<html>404</html>", Outcome.NONSENSE),
    "per_minute": (
        429,
        told(429, EXHAUSTED, PLAN, quota(PER_MINUTE), RETRY),
        Outcome.RATE_LIMITED,
    ),
    "per_day": (429, told(429, EXHAUSTED, PLAN, quota(PER_DAY), HELP, RETRY), Outcome.QUOTA),
    "granted_nothing": (429, told(429, EXHAUSTED, PLAN, quota(PER_MINUTE, "0")), Outcome.QUOTA),
    "per_day_as_reason": (
        429,
        told(429, EXHAUSTED, "", reason("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerDay")),
        Outcome.QUOTA,
    ),
    "plan": (429, told(429, EXHAUSTED, PLAN, HELP), Outcome.QUOTA),
    "plan_and_retry": (429, told(429, EXHAUSTED, PLAN, RETRY), Outcome.RATE_LIMITED),
    "bare": (429, told(429, EXHAUSTED, "Resource has been exhausted."), Outcome.RATE_LIMITED),
    "no_json": (429, b"slow down", Outcome.RATE_LIMITED),
    "in_an_array": (429, b"[" + told(429, EXHAUSTED, PLAN, HELP) + b"]", Outcome.QUOTA),
    "internal": (500, told(500, "INTERNAL"), Outcome.SERVER_ERROR),
    "overloaded": (503, told(503, "UNAVAILABLE"), Outcome.SERVER_ERROR),
    "deadline": (504, told(504, "DEADLINE_EXCEEDED"), Outcome.SERVER_ERROR),
    "cancelled": (499, told(499, "CANCELLED"), Outcome.SERVER_ERROR),
    "redirect": (302, b"", Outcome.NONSENSE),
    "created": (201, b"{}", Outcome.NONSENSE),
}


@pytest.mark.parametrize("name", CASES)
def test_what_an_error_means(name: str) -> None:
    """The status and, where it says too little, the body: a bad key, a day's quota."""
    status, body, expected = CASES[name]

    assert classify_error(status, body) is expected


FIELD = {
    "@type": "type.googleapis.com/google.rpc.BadRequest",
    "fieldViolations": [{"field": "generation_config.top_k", "description": "too large"}],
}

WORDS = {
    "rate": (429, told(429, EXHAUSTED), "rate_limit_error", "rate_limit_exceeded"),
    "quota": (429, told(429, EXHAUSTED, PLAN), "insufficient_quota", "insufficient_quota"),
    "model": (404, told(404, "NOT_FOUND"), "invalid_request_error", "model_not_found"),
    "argument": (400, told(400, BAD), "invalid_request_error", None),
    "long": (400, told(400, BAD, TOO_LONG), "invalid_request_error", "context_length_exceeded"),
    "server": (503, told(503, "UNAVAILABLE"), "api_error", None),
}


@pytest.mark.parametrize("name", WORDS)
def test_an_error_in_openais_words(name: str) -> None:
    """Its type and code are those that OpenAI's clients know; Google's own stands beside."""
    status, body, kind, code = WORDS[name]

    words = read_error(status, body)

    assert (words.status, words.type, words.code) == (status, kind, code)
    assert words.message == orjson.loads(body)["error"]["message"]
    assert words.metadata == {"status": orjson.loads(body)["error"]["status"]}


def test_an_error_names_the_field() -> None:
    """The first field that Google complains of is the `param`."""
    words = read_error(400, b"[" + told(400, BAD, "No.", FIELD) + b"]")

    assert words.param == "generation_config.top_k"


def test_an_error_says_when_to_come_back() -> None:
    """Google's own word for it, which stands in no header."""
    words = read_error(429, told(429, EXHAUSTED, PLAN, quota(PER_MINUTE), RETRY))

    assert words.metadata == {"status": EXHAUSTED, "retry_delay": "36s"}


def test_an_error_of_another_shape_is_its_text() -> None:
    """A page of a proxy between is told as it is, as far as it is short."""
    assert read_error(502, b"<html>\xff" + b"x" * 9999).message.startswith("<html>\ufffdx")
    assert len(read_error(502, b"x" * 9999).message) == 4096


NAMES = ["error", "details", "@type", "violations", "quotaId", "metadata", "quota_limit", "reason"]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*NAMES, "message", "status", "fieldViolations"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from([400, 403, 404, 429, 500]), st.binary() | values.map(orjson.dumps))
def test_any_error_is_read(status: int, body: bytes) -> None:
    """Whatever an upstream sends, it means something and has words."""
    assert classify_error(status, body) in Outcome
    assert isinstance(read_error(status, body).message, str)
