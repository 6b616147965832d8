"""AWS Signature Version 4 for one POST of JSON. Pure.

Own code, as botocore's takes 200 ms to import and 31 MB on disk for these thirty lines; a test
holds them to botocore's, request by request (AWS, "Create a signed AWS API request").
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit

SERVICE = "bedrock"
"""Not the name of the host, which is `bedrock-runtime`."""

_ALGORITHM = "AWS4-HMAC-SHA256"


class Keys(NamedTuple):
    """What AWS knows us by; `token` comes with keys that are lent for some hours."""

    access_key_id: str
    secret_access_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return "Keys(***)"


def signature_headers(
    url: str, content_type: str, body_sha256: str, *, keys: Keys, region: str, now_s: int
) -> dict[str, str]:
    """The headers that sign a POST to this URL at this UNIX time; the token is one of them.

    Only what is sent as it is here is signed: host, content type, date, token. The path of the URL
    is percent-encoded already and is encoded once more, as every service but S3 wants it.
    """
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {"X-Amz-Date": stamp}
    if keys.token is not None:
        sent["X-Amz-Security-Token"] = keys.token
    host, path, query = _target(url)
    signed = {"content-type": content_type, "host": host}
    signed |= {name.lower(): value for name, value in sent.items()}
    names = ";".join(sorted(signed))
    lines = "".join([f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed)])
    canonical = f"POST\n{path}\n{query}\n{lines}\n{names}\n{body_sha256}"
    scope = f"{stamp[:8]}/{region}/{SERVICE}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    key = _signing_key(keys.secret_access_key, stamp[:8], region)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"Credential={keys.access_key_id}/{scope}"
    sent["Authorization"] = (
        f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"
    )
    return sent


@lru_cache(maxsize=256)
def _target(url: str) -> tuple[str, str, str]:
    """Host, path and query as they are signed; URLs are made of settings, so there are few."""
    parts = urlsplit(url)
    return parts.netloc, quote(parts.path or "/", safe="/~"), parts.query


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    """The key of one day: four rounds that need not be run for every request."""
    key = f"AWS4{secret}".encode()
    for word in (day, region, SERVICE, "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return key
