"""Signature Version 4: request by request what botocore makes of it."""

from __future__ import annotations

import hashlib

import pytest
from bedrock_frames import resigned
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings import Provider
from proxy.vendors.bedrock import url
from proxy.vendors.bedrock.sigv4 import Keys, signature_headers

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
LENT = Keys("ASIAEXAMPLE", "secret", "IQoJb3JpZ2luX2VjEXAMPLE//////////token==")
HOST = "https://bedrock-runtime.us-east-1.amazonaws.com"
MODELS = [
    "amazon.nova-lite-v1:0",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-6-v1",
    "arn:aws:sagemaker:us-east-1:123456789012:endpoint/my-endpoint",
    "a b+c~d%e/ü",
]


def headers(
    target: str, body: bytes, keys: Keys, *, region: str = "us-east-1", now_s: int = 1_760_000_000
) -> dict[str, str]:
    digest = hashlib.sha256(body).hexdigest()
    found = signature_headers(
        target, "application/json", digest, keys=keys, region=region, now_s=now_s
    )
    return {"Content-Type": "application/json", **found}


def checked(target: str, body: bytes, keys: Keys, **fields: object) -> tuple[str, str]:
    """Our signature, and botocore's for what was sent."""
    region = str(fields.get("region", "us-east-1"))
    sent = {name.lower(): value for name, value in headers(target, body, keys, **fields).items()}  # type: ignore[arg-type]
    sent["host"] = target.split("/")[2]
    return sent["authorization"], resigned(target, sent, body, keys, region)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("keys", [KEYS, LENT], ids=["own", "lent"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_call_is_signed_as_botocore_signs_it(model: str, keys: Keys, *, stream: bool) -> None:
    """Colons of ids and slashes of ARNs are encoded once in the URL, twice in what is signed."""
    provider = Provider(name="p", type="bedrock", base_url=HOST)
    target = url(provider, format="bedrock_converse", model=model, stream=stream)

    ours, theirs = checked(target, b'{"messages": []}', keys)

    assert ours == theirs


@given(
    body=st.binary(max_size=200),
    secret=st.text(st.characters(codec="ascii", exclude_characters="\n"), min_size=1, max_size=40),
    token=st.none() | st.from_regex(r"[A-Za-z0-9+/= ]{1,80}[A-Za-z0-9]", fullmatch=True),
    region=st.from_regex(r"[a-z]{2}-[a-z]{4,9}-[1-9]", fullmatch=True),
    now_s=st.integers(0, 4_000_000_000),
)
def test_any_call_is_signed_as_botocore_signs_it(
    body: bytes, secret: str, token: str | None, region: str, now_s: int
) -> None:
    """Whatever the body, the keys, the region and the time are."""
    target = f"http://127.0.0.1:8080/model/{region}/converse"

    ours, theirs = checked(target, body, Keys("AKID", secret, token), region=region, now_s=now_s)

    assert ours == theirs


def test_what_is_signed() -> None:
    """Host, type, time and token; not what a proxy on the way may change."""
    sent = headers(f"{HOST}/model/m/converse", b"", LENT)

    assert (
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token,"
        in (sent["Authorization"])
    )
    assert sent["X-Amz-Security-Token"] == LENT.token
    assert sent["X-Amz-Date"] == "20251009T085320Z"
    assert LENT.secret_access_key not in sent["Authorization"]


def test_keys_do_not_print() -> None:
    """A secret in a traceback is a secret lost."""
    assert "secret" not in f"{LENT!r} {LENT}"
