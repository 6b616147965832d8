"""Settings, answers and ways to ask, for tests of paths that are relayed as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import aiohttp
from fixtures_door import KEY, RunningDoor, settings, tenant, usd
from yarl import URL

from metering.prices import PriceBook, PriceRule
from metering.tenants import ApiKey, Tenant
from proxy.passthrough_rules import Passthrough, Terms
from proxy.settings import Settings

OTHER_KEY = "sk-weir-other-0123456789"

MP3 = bytes(range(256)) * 400


def other_tenant(**limits: Any) -> Tenant:
    digest = hashlib.sha256(OTHER_KEY.encode()).hexdigest()
    return replace(
        tenant(**limits), id="other", name="Other", keys=(ApiKey("k2", digest, "default"),)
    )


def terms(**fields: Any) -> Passthrough:
    """Half a dollar held for what its answer tells, $0.04 an image."""
    written = {
        "provider": "one",
        "hold_nano": usd("0.50"),
        "terms": {"images": Terms(usd("0.25"), usd("0.04"))},
        **fields,
    }
    return Passthrough(**written)


def passing_settings(
    url: str,
    *,
    passthrough: Passthrough | None = None,
    rules: tuple[PriceRule, ...] = (),
    who: Tenant | None = None,
    others: tuple[Tenant, ...] = (),
    **fields: Any,
) -> Settings:
    """One provider `one` and its model `m`; two tenants where `others` says so."""
    passthrough = terms() if passthrough is None else passthrough
    made = settings({"one": url}, who=who, **fields)
    return replace(
        made,
        passthrough=passthrough,
        prices=PriceBook((*rules, *passthrough.price_rules())),
        tenants={**made.tenants, **{each.id: each for each in others}},
    )


async def ask(
    door: RunningDoor,
    method: str,
    path: str,
    *,
    key: str = KEY,
    headers: Mapping[str, str] | None = None,
    **fields: Any,
) -> aiohttp.ClientResponse:
    """A request with the tenant's key; `path` goes out as it is written here."""
    answer = await door.http.request(
        method,
        URL(f"{door.url}{path}", encoded=True),
        headers={"Authorization": f"Bearer {key}", **(headers or {})},
        **fields,
    )
    door.answers.append(answer)
    return answer


async def refusal(answer: aiohttp.ClientResponse) -> tuple[int, str]:
    return answer.status, (await answer.json())["error"]["code"]


def form_bytes(model: bytes) -> bytes:
    return (
        b'--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + model + b"\r\n"
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n'
        b"Content-Type: audio/mpeg\r\n\r\n" + MP3 + b"\r\n--xyz--\r\n"
    )
