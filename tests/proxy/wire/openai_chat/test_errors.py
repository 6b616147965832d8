"""What an upstream's refusal means."""

from __future__ import annotations

import orjson
import pytest

from proxy.wire.openai_chat.errors import classify_error, classify_status
from routing.fallback import Outcome

POLICY = Outcome.CONTENT_POLICY


def said(message: str, **fields: object) -> bytes:
    return orjson.dumps({"error": {"message": message, **fields}})


VLLM_TOO_LONG = orjson.dumps(
    {
        "object": "error",
        "message": "This model's maximum context length is 6048 tokens. However, you requested "
        "6616 tokens (568 in the messages, 6048 in the completion).",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    }
)
VLLM_NO_MODEL = orjson.dumps(
    {"object": "error", "message": "The model `m` does not exist.", "type": "NotFoundError"}
)
AZURE_FILTERED = said(
    "The response was filtered due to the prompt triggering Azure OpenAI's content management "
    "policy. Please modify your prompt and retry.",
    type=None,
    param="prompt",
    code="content_filter",
    status=400,
)

ERRORS = [
    (400, b"", Outcome.REFUSED),
    (401, b"", Outcome.AUTH),
    (402, b"", Outcome.QUOTA),
    (403, b"", Outcome.AUTH),
    (404, b"{}", Outcome.NONSENSE),
    (404, b"<html>404</html>", Outcome.NONSENSE),
    (404, b'{"detail": "Not Found"}', Outcome.NONSENSE),
    (405, b"", Outcome.NONSENSE),
    (404, b'{"error": {"message": "no such model"}}', Outcome.REFUSED),
    (404, b'{"error": "model not found"}', Outcome.REFUSED),
    (404, b'{"object": "error", "message": "no such model"}', Outcome.REFUSED),
    (404, b'{"error": {"code": "model_not_found"}}', Outcome.UNKNOWN_MODEL),
    (404, b'{"error": {"code": "DeploymentNotFound"}}', Outcome.UNKNOWN_MODEL),
    (404, VLLM_NO_MODEL, Outcome.UNKNOWN_MODEL),
    (400, b'{"error": {"code": "context_length_exceeded"}}', Outcome.CONTEXT_TOO_LONG),
    (400, VLLM_TOO_LONG, Outcome.CONTEXT_TOO_LONG),
    (400, b'{"error": {"type": "exceed_context_size_error"}}', Outcome.CONTEXT_TOO_LONG),
    (
        422,
        b'{"error": "`inputs` tokens + `max_new_tokens` must be <= 8"}',
        Outcome.CONTEXT_TOO_LONG,
    ),
    (400, said("x" * 300 + "maximum context length"), Outcome.REFUSED),
    (400, b'{"error": {"code": "content_policy_violation"}}', Outcome.CONTENT_POLICY),
    (400, AZURE_FILTERED, Outcome.CONTENT_POLICY),
    (400, b'{"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}', POLICY),
    (400, b'{"error": {"code": "invalid_prompt"}}', Outcome.CONTENT_POLICY),
    (403, b'{"error": {"metadata": {"flagged_input": "x"}}}', Outcome.CONTENT_POLICY),
    (403, b'{"error": {"code": "model_not_found"}}', Outcome.AUTH),
    (408, b"", Outcome.SERVER_ERROR),
    (409, b"", Outcome.SERVER_ERROR),
    (425, b"", Outcome.SERVER_ERROR),
    (429, b'{"error": {"code": "billing_not_active"}}', Outcome.QUOTA),
    (400, b"[1]", Outcome.REFUSED),
    (429, b"", Outcome.RATE_LIMITED),
    (429, b'{"error": {"code": "insufficient_quota"}}', Outcome.QUOTA),
    (429, b'{"error": {"code": null, "type": "insufficient_quota"}}', Outcome.QUOTA),
    (429, b'{"error": "slow"}', Outcome.RATE_LIMITED),
    (302, b"", Outcome.NONSENSE),
    (204, b"", Outcome.NONSENSE),
    (500, b"", Outcome.SERVER_ERROR),
    (529, b"", Outcome.SERVER_ERROR),
]


@pytest.mark.parametrize(("status", "body", "outcome"), ERRORS)
def test_error_statuses(status: int, body: bytes, outcome: Outcome) -> None:
    """Status first, then the error's code, say what an upstream's refusal means."""
    assert classify_error(status, body) is outcome


def test_a_path_of_the_clients_own_may_be_unknown() -> None:
    """What is relayed as it is has no address of ours to doubt."""
    assert classify_status(404, b"<html>404</html>") is Outcome.REFUSED
