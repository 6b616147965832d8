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
