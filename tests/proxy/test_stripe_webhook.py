"""`POST /webhooks/stripe` over real sockets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fixtures_door import OpenDoor, RunningDoor, settings

from metering.callbacks import Callback, MemoryCallbacks
from metering.caps import CapsUnavailableError
from metering.clock import now_ns
from metering.stripe_settings import StripeSettings
from metering.stripe_signature import sign
from proxy.settings import Settings

SECRET, OLD = "whsec_0123456789abcdef", "whsec_fedcba9876543210"
EVENT = {"id": "evt_1", "type": "invoice.paid", "created": 7, "data": {"object": {"name": "Ann"}}}


def configured(*secrets: str) -> Settings:
    stripe = StripeSettings("sk_test_0", (), {}, 0, webhook_secrets=secrets)
    return replace(settings({}), stripe=stripe)


async def post(
    door: RunningDoor, body: bytes, secret: str | None = SECRET, *, late_s: int = 0, **headers: str
) -> tuple[int, dict[str, Any]]:
    if secret is not None:
        at_s = now_ns() // 1_000_000_000 - late_s
        headers["Stripe-Signature"] = sign(body, secret, at_s=at_s)
    answer = await door.http.post(f"{door.url}/webhooks/stripe", data=body, headers=headers)
    door.answers.append(answer)
    return answer.status, await answer.json()


def taken(door: RunningDoor) -> list[Callback]:
    assert isinstance(door.door.callbacks, MemoryCallbacks)
    return door.door.callbacks.taken


@pytest.fixture
async def opened(open_door: OpenDoor) -> RunningDoor:
    return await open_door(configured(OLD, SECRET))


async def test_what_stripe_signed_is_taken(opened: RunningDoor) -> None:
    """With either secret, and nothing of it but which event it was; nor does the log have more."""
    body = json.dumps(EVENT).encode()

    answers = [await post(opened, body), await post(opened, body, OLD)]

    assert [status for status, _ in answers] == [200, 200]
    assert taken(opened) == [Callback("evt_1", "invoice.paid", 7)] * 2
    assert "Ann" not in repr(opened.log.lines)
    assert SECRET not in repr(opened.log.lines)


@pytest.mark.parametrize(
    ("body", "secret", "late_s", "code"),
    [
        (json.dumps(EVENT).encode(), None, 0, "invalid_signature"),
        (json.dumps(EVENT).encode(), "whsec_of_somebody_else", 0, "invalid_signature"),
        (json.dumps(EVENT).encode(), SECRET, 400, "invalid_signature"),
        (b"{", SECRET, 0, None),
        (b"[]", SECRET, 0, None),
        (json.dumps({**EVENT, "id": "evt 1"}).encode(), SECRET, 0, None),
        (json.dumps({**EVENT, "type": 4}).encode(), SECRET, 0, None),
        (json.dumps({**EVENT, "created": True}).encode(), SECRET, 0, None),
    ],
)
async def test_anything_else_is_refused(
    opened: RunningDoor, body: bytes, secret: str | None, late_s: int, code: str | None
) -> None:
    """400, in words that name no secret."""
    status, said = await post(opened, body, secret, late_s=late_s)

    assert (status, said["error"]["code"], taken(opened)) == (400, code, [])
    assert SECRET not in json.dumps(said)


async def test_a_body_that_is_too_large_is_refused(opened: RunningDoor) -> None:
    """Before its signature is looked at."""
    status, _ = await post(opened, b"x" * (256 * 1024 + 1))

    assert (status, taken(opened)) == (413, [])


async def test_there_is_no_such_path_unless_configured(open_door: OpenDoor) -> None:
    door = await open_door(configured())

    status, said = await post(door, json.dumps(EVENT).encode())

    assert (status, said["error"]["code"]) == (404, "unknown_url")


class AwayCallbacks(MemoryCallbacks):
    """A Redis that is away."""

    async def take(self, callback: Callback) -> None:
        raise CapsUnavailableError("away")


async def test_stripe_sends_it_again_when_it_was_not_kept(opened: RunningDoor) -> None:
    front = opened.runner.app  # type: ignore[attr-defined]
    from proxy.front import RECEPTION, open_front

    front[RECEPTION].now = open_front(replace(opened.door, callbacks=AwayCallbacks()))

    status, said = await post(opened, json.dumps(EVENT).encode())

    assert (status, said["error"]["code"]) == (503, "callback_not_taken")
