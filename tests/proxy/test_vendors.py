"""Every vendor keeps the vendors' contract: an address from settings, a key in its header only."""

from __future__ import annotations

import pytest

from proxy.settings import Provider, Secret
from proxy.vendors import vendor, vendor_types

SECRET = "sk-canary-31337"


@pytest.mark.parametrize("name", vendor_types())
def test_the_contract(name: str) -> None:
    """The URL starts with the provider's base URL, and the key stands in no URL."""
    provider = Provider(
        name="p", type=name, base_url="https://example.test/v1", api_key=Secret(SECRET)
    )

    url = vendor(name).url(
        provider, format=vendor(name).formats(provider)[0], model="m", stream=False
    )

    assert url.startswith("https://example.test/v1/")
    assert SECRET not in url
    assert SECRET not in repr(provider)
    assert all(isinstance(value, str) for value in vendor(name).headers(provider).values())


def test_openai_sends_a_bearer_key() -> None:
    """The key goes out as OpenAI wants it; a server without a key gets none."""
    keyed = Provider(name="p", type="openai", base_url="http://x", api_key=Secret(SECRET))
    keyless = Provider(name="p", type="openai", base_url="http://x")

    assert vendor("openai").headers(keyed) == {"Authorization": f"Bearer {SECRET}"}
    assert vendor("openai").headers(keyless) == {}


def test_anthropic_sends_its_key_and_version() -> None:
    """The key stands alone in its header; version and beta features are as configured."""
    plain = Provider(name="p", type="anthropic", base_url="http://x", api_key=Secret(SECRET))
    options = {"version": " 2026-10-21 ", "beta": "compact-2026-01-12, context-1m-2025-08-07"}
    keyless = Provider(name="p", type="anthropic", base_url="http://x", options=options)

    assert vendor("anthropic").headers(plain) == {
        "x-api-key": SECRET,
        "anthropic-version": "2023-06-01",
    }
    assert vendor("anthropic").headers(keyless) == {
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "compact-2026-01-12,context-1m-2025-08-07",
    }


def test_anthropic_speaks_messages() -> None:
    """One path for answers, whole or streamed, and one name for the limit."""
    anthropic = vendor("anthropic")
    provider = Provider(name="p", type="anthropic", base_url=anthropic.BASE_URL or "")

    [spoken] = anthropic.formats(provider)

    assert spoken == "anthropic_messages"
    assert anthropic.output_limit_field(provider) == "max_tokens"
    for stream in (False, True):
        url = anthropic.url(provider, format=spoken, model="claude", stream=stream)
        assert url == "https://api.anthropic.com/v1/messages"


def test_an_unknown_vendor() -> None:
    """A type nobody wrote a file for is a KeyError, whatever it looks like."""
    for name in ("nobody", "..", "os", ""):
        with pytest.raises(KeyError):
            vendor(name)


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://acme.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://api.mistral.ai/v1", "max_tokens"),
        ("http://127.0.0.1:8000/v1", "max_tokens"),
        ("https://notopenai.com/v1", "max_tokens"),
    ],
)
def test_where_a_limit_is_written(url: str, field: str) -> None:
    """By the name that this server heeds: one that it ignores would bound nothing."""
    provider = Provider(name="p", type="openai", base_url=url)

    assert vendor("openai").output_limit_field(provider) == field


def gemini(**options: str) -> Provider:
    return Provider(
        name="p", type="gemini", base_url="https://g.test", api_key=Secret(SECRET), options=options
    )


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-flash", "models/gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "models/gemini-2.5-flash"),
        ("tunedModels/mine-1", "tunedModels/mine-1"),
        ("endpoints/123", "endpoints/123"),
        ("other/x", "models/other%2Fx"),
        ("models/../../x", "models/..%2F..%2Fx"),
        ("a?key=b#c:d e", "models/a%3Fkey%3Db%23c%3Ad%20e"),
    ],
)
def test_gemini_has_the_model_in_its_address(model: str, path: str) -> None:
    """Quoted, so that a name stays one step of the path; the verb says whether it streams."""
    url = vendor("gemini").url

    whole = url(gemini(), format="gemini", model=model, stream=False)
    streamed = url(gemini(), format="gemini", model=model, stream=True)

    assert whole == f"https://g.test/{path}:generateContent"
    assert streamed == f"https://g.test/{path}:streamGenerateContent?alt=sse"


def test_gemini_has_its_key_in_a_header() -> None:
    """As an API key, or as a token where the option says so; nothing without one."""
    keyless = Provider(name="p", type="gemini", base_url="https://g.test")

    assert vendor("gemini").headers(gemini()) == {"x-goog-api-key": SECRET}
    assert vendor("gemini").headers(gemini(auth="bearer")) == {"Authorization": f"Bearer {SECRET}"}
    assert vendor("gemini").headers(keyless) == {}
