"""What Bedrock means by its errors, with the shapes that its API describes."""

from __future__ import annotations

import orjson
import pytest
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.bedrock_converse.errors import classify_error, read_error, stream_error
from routing.fallback import Outcome


def said(message: str = "", **fields: str) -> bytes:
    return orjson.dumps({"message": message, **fields})


OUTCOMES = {
    "validation": (400, said("Malformed input request"), Outcome.REFUSED),
    "unknown_model": (404, said("Could not resolve the foundation model"), Outcome.UNKNOWN_MODEL),
    "wrong_model": (
        400,
        said("The provided model identifier is invalid."),
        Outcome.UNKNOWN_MODEL,
    ),
    "too_long": (400, said("Input is too long for requested model."), Outcome.CONTEXT_TOO_LONG),
    "too_long_of_a_model": (
        400,
        said("The model returned the following errors: prompt is too long: 210000 tokens > 200000"),
        Outcome.CONTEXT_TOO_LONG,
    ),
    "too_long_in_a_quote": (400, said("x" * 300 + "Input is too long"), Outcome.REFUSED),
    "filtered": (
        400,
        said("The model returned the following errors: Output blocked by content filtering policy"),
        Outcome.CONTENT_POLICY,
    ),
    "no_such_path": (404, b"<UnknownOperationException/>", Outcome.NONSENSE),
    "no_such_method": (405, b"{}", Outcome.NONSENSE),
    "no_access": (403, said("You don't have access to the model"), Outcome.AUTH),
    "iam": (403, orjson.dumps({"Message": "User: arn is not authorized"}), Outcome.AUTH),
    "api_key": (401, b"", Outcome.AUTH),
    "expired": (400, said("expired", __type="aws.auth#ExpiredTokenException"), Outcome.AUTH),
    "unsigned": (400, said(__type="MissingAuthenticationTokenException"), Outcome.AUTH),
    "throttled": (429, said("Too many requests, please wait"), Outcome.RATE_LIMITED),
    "daily": (429, said("Too many tokens per day, please wait"), Outcome.QUOTA),
    "quota": (400, said(__type="ServiceQuotaExceededException:http://x/"), Outcome.QUOTA),
    "loading": (429, said("Model is not ready"), Outcome.RATE_LIMITED),
    "slow": (408, said("Model timed out"), Outcome.SERVER_ERROR),
    "model": (424, said("The model failed"), Outcome.SERVER_ERROR),
    "internal": (500, b"<html>", Outcome.SERVER_ERROR),
    "away": (503, said("Too many connections"), Outcome.SERVER_ERROR),
    "redirect": (307, b"", Outcome.NONSENSE),
    "created": (201, b"{}", Outcome.NONSENSE),
    "too_large": (413, b"[]", Outcome.REFUSED),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_an_error_means(name: str) -> None:
    """The status decides, and the body where the status cannot."""
    status, body, outcome = OUTCOMES[name]

    assert classify_error(status, body) is outcome


def test_every_exception_of_the_api_is_known_in_a_stream() -> None:
    """What its description lists has the status there that it has without a stream."""
    model = Session().get_service_model("bedrock-runtime")
    members = model.operation_model("ConverseStream").output_shape.members["stream"].members
    exceptions = {
        name: shape.metadata["error"]["httpStatusCode"]
        for name, shape in members.items()
        if shape.metadata.get("exception")
    }

    assert len(exceptions) == 5
    for name, status in exceptions.items():
        assert stream_error(name, "m")["type"] == read_error(status, b"").type, name
        assert stream_error(name, "m")["code"] == name


def test_an_error_in_openais_words() -> None:
    """Message, type by status, and the exception's own name where the body has it."""
    words = read_error(400, said("No such field", __type="x#ValidationException"))

    assert (words.status, words.message, words.type, words.code, words.param) == (
        400,
        "No such field",
        "invalid_request_error",
        "ValidationException",
        None,
    )
    assert read_error(429, said("Slow down")).type == "rate_limit_error"
    assert read_error(500, b"<html>").message == "<html>"
    assert read_error(503, b"{}").message == "The upstream gave no reason."
    assert stream_error("", "")["message"] == "The upstream gave no reason."


@given(
    st.integers(100, 700),
    st.binary(max_size=50) | st.sampled_from([b"5", b"[]", b'{"message":[]}']),
)
def test_no_body_breaks_the_reader(status: int, body: bytes) -> None:
    """Whatever comes has an outcome and words."""
    assert classify_error(status, body) in Outcome
    assert read_error(status, body).message
