"""Keys to principals: by the whole hash, in constant time, and nothing else."""

from __future__ import annotations

import hashlib

from metering.tenants import ApiKey, SpendLimits, Tenant
from proxy.auth import Authenticator


def made(*keys: str) -> Authenticator:
    return Authenticator(
        [
            Tenant(
                f"t{number}",
                "T",
                SpendLimits(),
                (ApiKey("k", hashlib.sha256(key.encode()).hexdigest(), "default"),),
            )
            for number, key in enumerate(keys)
        ],
        lambda: 0,
    )


def test_a_key_names_its_tenant() -> None:
    """The tenant comes from the key; the scheme is read in any case."""
    principal = made("sk-a", "sk-b").authenticate(["bearer sk-b"])

    assert principal is not None
    assert principal.tenant.id == "t1"


def test_keys_alike_in_the_beginning_are_two() -> None:
    """T-04: keys that share their first forty characters are two identities."""
    shared = "sk-" + "x" * 40
    authenticator = made(shared + "a", shared + "b")

    first = authenticator.by_key(shared + "a")
    second = authenticator.by_key(shared + "b")

    assert first is not None
    assert second is not None
    assert (first.tenant.id, second.tenant.id) == ("t0", "t1")
    assert authenticator.by_key(shared) is None


def test_the_same_header_twice_is_one() -> None:
    """A proxy in between may double a header; the same value proves the same thing."""
    assert made("sk-a").authenticate(["Bearer sk-a", "Bearer sk-a"]) is not None


def test_odd_values_are_no_key() -> None:
    """T-01: bytes that are no text, and no value at all, are refused without a failure."""
    authenticator = made("sk-a")

    for value in ("", "Bearer", "Bearer \udcff", "Bearer \x00", "Bearer " + "x" * 10_000):
        assert authenticator.authenticate([value]) is None
    assert authenticator.authenticate([]) is None


def test_a_key_ends_at_its_time() -> None:
    """From that nanosecond on it is like any unknown one; a key without an end asks no clock."""
    sha256 = hashlib.sha256(b"sk-a").hexdigest()
    keys = (ApiKey("k", sha256, "default", expires_ns=10),)
    now = iter([9, 10])
    authenticator = Authenticator([Tenant("t", "T", SpendLimits(), keys)], lambda: next(now))

    assert authenticator.by_key("sk-a") is not None
    assert authenticator.by_key("sk-a") is None
    assert made("sk-b").by_key("sk-b") is not None
