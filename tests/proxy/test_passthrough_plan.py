"""Where a request goes, on which terms, and what stands in its way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures_door import KEY, tenant, usd
from passthrough_samples import passing_settings, terms

from metering.tenants import ApiKey, Principal, Tenant
from proxy.errors import (
    ApiError,
    InvalidRequest,
    ModelNotAllowed,
    ModelNotFound,
    ProviderUnavailable,
    UnpricedModel,
)
from proxy.passthrough_bodies import NOTHING_SENT, read_sent
from proxy.passthrough_errors import PathNotAllowed, PathNotHeld
from proxy.passthrough_paths import Target, find
from proxy.passthrough_plan import Asked, Planned, plan_errand
from proxy.passthrough_rules import Passthrough, Terms
from proxy.settings import Settings
from routing.upstreams import Model, Upstream

URL = "http://one.test/v1"


def asked(method: str, path: str, body: Any = None, query: str = "", **headers: str) -> Asked:
    found = find(method, path)
    assert isinstance(found, Target)
    sent = NOTHING_SENT if body is None else read_sent(orjson.dumps(body), "application/json")
    named = {"Content-Type": "application/json", **headers}
    return Asked(found, sent, query, named)


def planned(request: Asked, *, who: Tenant | None = None, **fields: Any) -> Planned:
    who = who or tenant(cap=None)
    configured = changed(passing_settings(URL, who=who, **fields))
    return plan_errand(configured, Principal(who, ApiKey("k1", KEY, "default")), request)


def changed(settings: Settings) -> Settings:
    """With a second provider of type openai, one that cannot be called, and one of another type."""
    one = settings.providers["one"]
    return replace(
        settings,
        providers={
            "one": one,
            "two": replace(one, name="two", base_url="http://two.test/v1"),
            "off": replace(one, name="off", unavailable="environment variable X is not set"),
        },
    )


MODELS = {
    "both": Model("both", (Upstream("two", "dall-e-3", "both"), Upstream("one", "d", "both"))),
    "away": Model("away", (Upstream("off", "x", "away"), Upstream("two", "y", "away"))),
    "two": Model("two", (Upstream("two", "z", "two"),)),
}


def test_where_nothing_stays_the_model_decides() -> None:
    """Images go to the model's first upstream that can be called; objects stay where they are."""
    image = planned(asked("POST", "images/generations", {"model": "both"}), models=MODELS)
    away = planned(asked("POST", "images/generations", {"model": "away"}), models=MODELS)
    object_ = planned(asked("POST", "assistants", {"model": "both"}), models=MODELS)

    assert image.errand.call.url == "http://two.test/v1/images/generations"
    assert orjson.loads(image.errand.call.body) == {"model": "dall-e-3"}
    assert orjson.loads(away.errand.call.body) == {"model": "y"}
    assert object_.errand.call.url == "http://one.test/v1/assistants"
    assert orjson.loads(object_.errand.call.body) == {"model": "d"}


def test_ids_are_those_of_path_body_and_query() -> None:
    """Each has to be the tenant's; a new object counts against the bound."""
    found = planned(
        asked(
            "POST",
            "vector_stores/vs_1/files",
            {"file_id": "file-1"},
            query="include[]=x&file_id=file-2",
        )
    )
    made = planned(asked("POST", "files", {"purpose": "x"}))

    assert found.ids == ("vs_1", "file-1", "file-2")
    assert (found.makes_max, made.makes_max) == (None, 10_000)
    assert found.errand.call.url.endswith("?include[]=x&file_id=file-2")


def test_an_account_of_its_own_is_asked_for_nothing() -> None:
    """Neither ids nor bounds nor pages; the list goes out with its own query."""
    own = terms(own_accounts={"acme": "two"})

    found = planned(asked("GET", "files", query="after=file-9"), passthrough=own)

    assert found.errand.call.url == "http://two.test/v1/files?after=file-9"
    assert (found.ids, found.makes_max, found.errand.owner, found.errand.wanted) == (
        (),
        None,
        None,
        None,
    )


def test_what_is_held_grows_with_what_is_asked_for() -> None:
    """Per image, and per second of video; nothing for what spends nothing."""
    held = terms(hold_nano=None, terms={"images": Terms(5), "videos": Terms(7)})
    capped = tenant()

    def hold(request: Asked) -> int:
        return planned(request, passthrough=held, who=capped).errand.job.hold_nano

    assert hold(asked("POST", "images/generations", {"model": "d", "n": 3})) == 15
    assert hold(asked("POST", "videos", {"model": "sora-2", "seconds": "8"})) == 56
    assert hold(asked("POST", "videos", {"model": "sora-2"})) == 28
    assert hold(asked("GET", "files")) == 0


LISTED = replace(tenant(cap=None), models=frozenset({"both"}))
UNHELD = terms(hold_nano=None, terms={})
REFUSED: dict[str, tuple[Asked, dict[str, Any], type[ApiError]]] = {
    "not_at_the_account": (asked("POST", "assistants", {"model": "two"}), {}, InvalidRequest),
    "cannot_be_called": (
        asked("GET", "files"),
        {"passthrough": terms(provider="off")},
        ProviderUnavailable,
    ),
    "fine_tuned": (
        asked("POST", "assistants", {"model": "ft:gpt-4o:org::abc"}),
        {},
        ModelNotFound,
    ),
    "fine_tuned_step": (
        asked("POST", "fine_tuning/jobs", {"model": "gpt-4o:ft-org-2024"}),
        {},
        ModelNotFound,
    ),
    "not_listed": (
        asked("POST", "audio/speech", {"model": "tts"}),
        {"who": LISTED},
        ModelNotAllowed,
    ),
    "unread_batch": (asked("POST", "batches", {}), {"who": LISTED}, ModelNotAllowed),
    "unread_eval": (asked("POST", "evals/e_1/runs", {}), {"who": LISTED}, ModelNotAllowed),
    "everybodys": (
        asked("POST", "evals", {"data_source_config": {"type": "stored_completions"}}),
        {},
        PathNotAllowed,
    ),
    "unheld": (
        asked("POST", "audio/speech", {"model": "tts"}),
        {"passthrough": UNHELD, "who": tenant()},
        PathNotHeld,
    ),
    "unheld_later": (asked("POST", "batches", {}), {"who": tenant()}, PathNotHeld),
    "header": (asked("GET", "files", Accept="a\r\nX: y"), {}, InvalidRequest),
    "query": (asked("GET", "files", query="a=\u00e4"), {}, InvalidRequest),
    "many_images": (asked("POST", "images/edits", {"n": 10_000}), {}, InvalidRequest),
}


@pytest.mark.parametrize(("request_", "fields", "kind"), REFUSED.values(), ids=REFUSED)
def test_refusals(request_: Asked, fields: dict[str, Any], kind: type[ApiError]) -> None:
    """Each by its own name, before anything is held."""
    with pytest.raises(kind):
        planned(request_, models=MODELS, **fields)


def test_a_price_without_a_rate_for_it_is_none() -> None:
    """A rule of the operator's that hides the flat price leaves a capped tenant without one."""
    from metering.prices import PriceRule

    hidden = PriceRule("path:audio", 0, 0, class_rates_pico={"image": 1}, has_token_rates=False)

    with pytest.raises(UnpricedModel):
        planned(
            asked("POST", "audio/speech", {"model": "tts"}),
            who=tenant(),
            rules=(hidden,),
        )


def test_only_what_is_named_goes_on() -> None:
    """Of the client's headers three; the credential is ours, whatever the client says."""
    found = planned(
        asked(
            "POST",
            "audio/speech",
            {"model": "tts"},
            **{"Authorization": "Bearer evil", "Accept": "audio/mpeg", "X-Y": "z"},
        )
    )

    headers = found.errand.call.headers
    assert headers["Accept"] == "audio/mpeg"
    assert headers["Content-Type"] == "application/json"
    assert "evil" not in headers["Authorization"]
    assert set(headers) == {
        "Accept",
        "Content-Type",
        "Accept-Encoding",
        "User-Agent",
        "Authorization",
    }


def test_the_default_terms_hold_something() -> None:
    """The samples mean what they say."""
    assert isinstance(terms(), Passthrough)
    assert terms().hold_nano == usd("0.50")
