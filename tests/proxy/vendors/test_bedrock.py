"""Bedrock as a vendor: where calls go, and what they are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bedrock_frames import resigned
from config_samples import faults, loaded

from metering.clock import now_ns
from proxy.pool import HttpTransport
from proxy.settings import Provider, Secret
from proxy.transport import Call, TransportError
from proxy.vendors import bedrock, signing, vendor
from proxy.vendors.bedrock.credentials import CredentialChain, NoKeysError
from proxy.vendors.bedrock.sigv4 import Keys

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
STATIC = {
    "region": "eu-central-1",
    "access_key_id": Secret("AKIDEXAMPLE"),
    "secret_access_key": Secret(SECRET),
}


def provider(
    base_url: str | None = bedrock.BASE_URL, api_key: str | None = None, **options: Any
) -> Provider:
    return Provider(
        name="aws",
        type="bedrock",
        base_url=base_url or "",
        api_key=Secret(api_key) if api_key else None,
        options=options,
    )


def call(url: str, body: bytes = b"{}") -> Call:
    return Call(url, {"Content-Type": "application/json", "Accept": "x"}, body, 1, 1)


async def prepared(configured: Provider, sent: Call) -> Call:
    transport = HttpTransport()
    try:
        return await bedrock.prepare(configured, sent, transport)
    finally:
        await transport.close()


@pytest.mark.parametrize(
    ("region", "base_url", "expected"),
    [
        ("us-east-1", None, "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ("us-gov-west-1", None, "https://bedrock-runtime.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", None, "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        ("us-east-1", "https://vpce-1.example", "https://vpce-1.example"),
    ],
)
def test_the_host_of_a_region(region: str, base_url: str | None, expected: str) -> None:
    """As AWS names it, unless the settings say another."""
    configured = provider(base_url or bedrock.BASE_URL, region=region)

    found = bedrock.url(configured, format="bedrock_converse", model="m", stream=False)

    assert found == f"{expected}/model/m/converse"


def test_the_path_of_a_model() -> None:
    """An id stays one segment of the path, whatever signs it has."""
    configured = provider(region="us-east-1")

    found = bedrock.url(
        configured, format="bedrock_converse", model="arn:aws:b:r:1:p/us.a-v1:0", stream=True
    )

    assert found.endswith("/model/arn%3Aaws%3Ab%3Ar%3A1%3Ap%2Fus.a-v1%3A0/converse-stream")


def test_what_it_is() -> None:
    """It speaks Converse, its calls are prepared, and it needs a region."""
    found = vendor("bedrock")

    assert found.formats(provider()) == ("bedrock_converse",)
    assert signing(found) is not None
    assert [name for name, option in found.OPTIONS.items() if option.is_required] == ["region"]
    assert [name for name, option in found.OPTIONS.items() if option.is_secret] == [
        "access_key_id",
        "secret_access_key",
        "session_token",
    ]
    assert found.output_limit_field(provider()) == "max_tokens"


async def test_an_api_key_is_sent_as_it_is() -> None:
    """Nothing is signed then, whatever keys there are besides."""
    configured = provider(api_key="bedrock-api-key-123", **STATIC)
    sent = call("https://h/model/m/converse")

    found = await prepared(configured, sent)

    assert bedrock.headers(configured) == {"Authorization": "Bearer bedrock-api-key-123"}
    assert found.headers == {"Content-Type": "application/json", "Accept": "application/json"}


@pytest.mark.parametrize("size", [2, 3 * 1024 * 1024], ids=["small", "in_a_thread"])
@pytest.mark.parametrize("token", [None, "lent"])
async def test_static_keys_sign(token: str | None, size: int) -> None:
    """botocore gives what was sent the same signature, at about the time it is."""
    options = STATIC if token is None else {**STATIC, "session_token": Secret(token)}
    configured = provider(**options)
    sent = call("https://h.example:8443/model/m%3A0/converse-stream", b"x" * size)

    found = await prepared(configured, sent)

    assert bedrock.headers(configured) == {}
    lowered = {name.lower(): value for name, value in found.headers.items()}
    lowered["host"] = "h.example:8443"
    keys = Keys("AKIDEXAMPLE", SECRET, token)
    assert lowered["authorization"] == resigned(sent.url, lowered, sent.body, keys, "eu-central-1")
    assert lowered["accept"] == "application/vnd.amazon.eventstream"
    assert SECRET not in str(found.headers)
    year = 1970 + now_ns() // 1_000_000_000 // 31_556_952
    assert lowered["x-amz-date"].startswith(str(year))


@pytest.mark.parametrize("name", ["access_key_id", "secret_access_key"])
async def test_half_a_pair_of_keys(name: str) -> None:
    """One without the other is a mistake, not a reason to look for keys elsewhere."""
    options = {each: value for each, value in STATIC.items() if each != name}

    with pytest.raises(TransportError, match=f"providers.aws.options lacks '{name}'"):
        await prepared(provider(**options), call("https://h/model/m/converse"))


async def test_keys_of_the_machine_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys in the settings those are used that the chain finds."""
    keys = Keys("ASIAFOUND", "found-secret", "found-token")
    monkeypatch.setattr(bedrock, "CHAIN", CredentialChain(lambda: keys))
    sent = call("https://h.example/model/m/converse")

    found = await prepared(provider(region="us-east-1"), sent)

    lowered = {name.lower(): value for name, value in found.headers.items()}
    lowered["host"] = "h.example"
    assert lowered["authorization"] == resigned(sent.url, lowered, b"{}", keys, "us-east-1")


async def test_a_machine_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt fails as one that reached nobody, so that another upstream is tried."""

    def find() -> Keys:
        raise NoKeysError("nothing here")

    monkeypatch.setattr(bedrock, "CHAIN", CredentialChain(find))

    with pytest.raises(TransportError, match="no AWS credentials: nothing here"):
        await prepared(provider(region="us-east-1"), call("https://h/model/m/converse"))


WRITTEN = """
providers:
  aws:
    type: bedrock
    options: {region: us-east-1, access_key_id: "${ID}", secret_access_key: "${SECRET}"}
models:
  m: {upstreams: [{provider: aws, model: "amazon.nova-lite-v1:0"}]}
pricing:
  rules: [{provider: aws, model: "*", input_per_mtok: 1, output_per_mtok: 4}]
"""


def test_the_settings_of_the_documentation(tmp_path: Path) -> None:
    """They load without an API key and without a base URL, and secrets print as stars."""
    found = loaded(tmp_path, WRITTEN, ID="AKIDEXAMPLE", SECRET=SECRET)

    configured = found.settings.providers["aws"]
    assert configured.unavailable is None
    assert SECRET not in repr(found)
    assert bedrock.url(
        configured, format="bedrock_converse", model="amazon.nova-lite-v1:0", stream=False
    ) == ("https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-lite-v1%3A0/converse")


def test_settings_without_a_region(tmp_path: Path) -> None:
    """It is missed before anything is served."""
    text = WRITTEN.replace("region: us-east-1, ", "")

    (fault,) = faults(tmp_path, text, ID="AKIDEXAMPLE", SECRET=SECRET)

    assert "providers.aws.options" in fault
    assert "lacks 'region'" in fault
