"""What an upstream's refusal means."""

from __future__ import annotations

import pytest

from proxy.wire.openai_chat.errors import classify_error, classify_status
from routing.fallback import Outcome

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
    (408, b"", Outcome.SERVER_ERROR),
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
