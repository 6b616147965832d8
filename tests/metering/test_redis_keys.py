"""Key names: one slot per tenant, and names that cannot be mistaken for each other."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from metering.caps import Scope, ScopeKind
from metering.ids import ID_PATTERN
from metering.redis_keys import RedisKeys

ids = st.from_regex(ID_PATTERN, fullmatch=True)
scopes = st.one_of(
    st.just(Scope(ScopeKind.TENANT)),
    st.builds(Scope, st.sampled_from([k for k in ScopeKind if k is not ScopeKind.TENANT]), ids),
)


@given(ids, scopes)
def test_all_keys_of_a_tenant_share_a_slot(tenant: str, scope: Scope) -> None:
    """A script may only touch keys of one slot, which the first braces decide."""
    keys = RedisKeys()
    names = [
        keys.scope(tenant, scope),
        keys.scope_holds(tenant, scope),
        keys.holds(tenant),
        keys.state(tenant),
        keys.done(tenant, 1_700_000_000_000),
        keys.claim(tenant, "an-exchange"),
        keys.epoch(keys.shard(tenant)),
        keys.settled(keys.shard(tenant)),
        keys.stream(keys.shard(tenant)),
    ]

    tags = {re.findall(r"\{(.*?)\}", name)[0] for name in names}

    assert tags == {f"s{keys.shard(tenant)}"}
    assert len(set(names)) == len(names)


@given(ids, scopes, ids, scopes)
def test_two_scopes_never_share_a_key(
    tenant: str, scope: Scope, other_tenant: str, other: Scope
) -> None:
    """What is not the same scope of the same tenant is another key."""
    keys = RedisKeys(shards=1)

    same = keys.scope(tenant, scope) == keys.scope(other_tenant, other)

    assert same == ((tenant, scope) == (other_tenant, other))


def test_a_tenant_stays_in_its_shard() -> None:
    """Data is found by it: a change of this number is a migration."""
    assert [RedisKeys().shard(tenant) for tenant in ("acme", "demo", "a")] == [14, 0, 3]
