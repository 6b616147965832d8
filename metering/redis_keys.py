"""Names of every Redis key, so that a tenant's keys share one cluster slot.

Layout (P = `redis.prefix`, {sN} = hash tag, N = crc32(tenant) mod `redis.shards`):

    P:{sN}:c:<kind>:<tenant>[/<id>]   hash    windows, held totals and open holds of one scope
    P:{sN}:z:<kind>:<tenant>[/<id>]   zset    exchange id -> expiry, Unix ms: holds of that scope
    P:{sN}:hold:<tenant>              hash    exchange id -> hold record (JSON, versioned); beside
                                              it <exchange id>:facts, :checkpoint and :reversals
    P:{sN}:open                       zset    tenant/exchange id -> when its record is due, Unix ms
    P:{sN}:state:<tenant>             hash    pause and kill flags, hysteresis of degradation
    P:{sN}:done:<bucket>              hash    exchange id -> answer of its commit; short-lived
    P:{sN}:claim:<tenant>:<exchange>  string  digest of an event from outside; `+` once recorded
    P:{sN}:own:<tenant>               zset    provider/id of objects there -> since when, Unix ms
    P:{sN}:own:<tenant>:passing       zset    the same of those that the provider forgets by itself
    P:{sN}:request:<tenant>:<name>    string  who answers a request with a key of its client's
    P:{sN}:replies, :repeats          hash    owner/name -> an answer that is kept; beside each
                                              :sizes, :ends and :ends:<owner>
    P:{sN}:epoch                      string  set once the shard's windows are known to be whole
    P:{sN}:windows                    hash    window of a tenant's scopes -> since when it is whole
    P:{sN}:balances                   hash    tenant -> nano-USD that it may have spent ever
    P:{sN}:settled                    string  the newest stream id that a worker went to settle
    P:{sN}:ledger                     string  the id of the ledger it goes to, as P:meta said last
    P:{sN}:<metering.queue>           stream  usage events
    P:{sN}:notes                      stream  what caps have to tell: marks crossed, refusals begun
    P:{sN}:<metering.queue>:dead      stream  the newest entries that could not be booked
    P:{sN}:<metering.queue>:tries     hash    stream id -> times a worker has died while settling it
    P:callbacks                       stream  what payment providers have called us back with
    P:confirmed                       hash    proxy id -> spool sequences in the ledger, as ranges
    P:prices:<version>                string  canonical body of one side of a price book
    P:proxies                         hash    proxy id -> what that process reports of itself (JSON)
    P:crossings                       hash    what is over its mark -> since when, Unix ms
    P:config                          string  which configuration was announced to all, and when
    P:registry                        hash    version and body of the tenants made while running
    P:health                          hash    upstream -> until when proxies pass it over, Unix ms
    P:trial:UPSTREAM                  string  which process may ask an upstream that has cooled
    P:meta                            hash    the names of this data and of the ledger it goes to
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

from metering.caps import Scope, ScopeKind

DONE_BUCKET_MS = 300_000
"""Commit markers live in buckets of five minutes, by the milliseconds of the exchange's UUIDv7."""

GROUP = "ledger"
"""The one consumer group that may acknowledge usage events."""


@dataclass(frozen=True, slots=True)
class RedisKeys:
    """Key names for one deployment; `shards` must never change without a migration."""

    prefix: str = "weir"
    shards: int = 16
    queue: str = "usage"

    def shard(self, tenant: str) -> int:
        """The shard of a tenant: crc32 of its id, modulo `shards`."""
        return _crc(tenant) % self.shards

    def tag(self, shard: int) -> str:
        """`P:{sN}`: the head of every key of a shard."""
        return f"{self.prefix}:{{s{shard}}}"

    def of(self, tenant: str) -> str:
        """The head of every key of a tenant."""
        return self.tag(self.shard(tenant))

    def scope(self, tenant: str, scope: Scope) -> str:
        """The hash with the windows and holds of a scope."""
        return f"{self.of(tenant)}:c:{_scope_name(tenant, scope)}"

    def scope_holds(self, tenant: str, scope: Scope) -> str:
        """The sorted set with the expiry of the scope's holds."""
        return f"{self.of(tenant)}:z:{_scope_name(tenant, scope)}"

    def holds(self, tenant: str) -> str:
        """The hash of hold records of a tenant."""
        return f"{self.of(tenant)}:hold:{tenant}"

    def open_holds(self, shard: int) -> str:
        """The sorted set of the shard's hold records, by when somebody should look at them."""
        return f"{self.tag(shard)}:open"

    def state(self, tenant: str) -> str:
        """The hash of flags of a tenant."""
        return f"{self.of(tenant)}:state:{tenant}"

    def done(self, tenant: str, exchange_ms: int) -> str:
        """The hash of commit markers for exchanges born in the same five minutes."""
        return f"{self.of(tenant)}:done:{exchange_ms // DONE_BUCKET_MS}"

    def claim(self, tenant: str, exchange_id: str) -> str:
        """What was reported for the tenant under this exchange, while a repeat of it is known."""
        return f"{self.of(tenant)}:claim:{tenant}:{exchange_id}"

    def owned(self, tenant: str) -> str:
        """The objects at providers that the tenant keeps."""
        return f"{self.of(tenant)}:own:{tenant}"

    def owned_passing(self, tenant: str) -> str:
        """Those that their providers forget by themselves."""
        return f"{self.of(tenant)}:own:{tenant}:passing"

    def batch(self, tenant: str, name: str) -> str:
        """What is to be billed of a batch that the tenant began."""
        return f"{self.of(tenant)}:batch:{tenant}:{name}"

    def request(self, tenant: str, name: str) -> str:
        """Who is answering the request that its client calls so."""
        return f"{self.of(tenant)}:request:{tenant}:{name}"

    def shelf(self, owner: str, kind: str) -> str:
        """The shard's replies of a kind; an owner is a tenant, or a pool that tenants share."""
        return f"{self.of(owner)}:{kind}"

    def sizes(self, shard: int, kind: str) -> str:
        """What the shard's replies of a kind are counted with."""
        return f"{self.tag(shard)}:{kind}:sizes"

    def epoch(self, shard: int) -> str:
        """Says that the shard's windows are whole."""
        return f"{self.tag(shard)}:epoch"

    def windows(self, shard: int) -> str:
        """Which of the configured windows hold what the ledger knows, since when, Unix ms."""
        return f"{self.tag(shard)}:windows"

    def balances(self, shard: int) -> str:
        """How much prepaid tenants of the shard may have spent, ever."""
        return f"{self.tag(shard)}:balances"

    def settled(self, shard: int) -> str:
        """Up to where a worker has settled the shard's stream, or was about to."""
        return f"{self.tag(shard)}:settled"

    def ledger(self, shard: int) -> str:
        """Which ledger the shard goes to, for while nobody can ask `meta`."""
        return f"{self.tag(shard)}:ledger"

    def stream(self, shard: int) -> str:
        """The shard's stream of usage events."""
        return f"{self.tag(shard)}:{self.queue}"

    def notes(self, shard: int) -> str:
        """The shard's stream of what its caps have to tell."""
        return f"{self.tag(shard)}:notes"

    def dead(self, shard: int) -> str:
        """The newest entries of the shard that could not be booked, as they came."""
        return f"{self.stream(shard)}:dead"

    def tries(self, shard: int) -> str:
        """How often a worker has died while it was settling an entry."""
        return f"{self.stream(shard)}:tries"

    def prices(self, version: str) -> str:
        """The canonical body of one side of a price book."""
        return f"{self.prefix}:prices:{version}"

    @property
    def proxies(self) -> str:
        """What each proxy process reports of itself."""
        return f"{self.prefix}:proxies"

    @property
    def crossings(self) -> str:
        """What has been alerted and is not over yet."""
        return f"{self.prefix}:crossings"

    @property
    def confirmed(self) -> str:
        """Per proxy, the spool sequences that the ledger has; of all shards."""
        return f"{self.prefix}:confirmed"

    @property
    def callbacks(self) -> str:
        """What payment providers have called us back with, until the ledger has it."""
        return f"{self.prefix}:callbacks"

    @property
    def registry(self) -> str:
        """The tenants that stand in the ledger, as proxies read them."""
        return f"{self.prefix}:registry"

    @property
    def announced(self) -> str:
        """Which configuration somebody has announced to all machines."""
        return f"{self.prefix}:config"

    @property
    def health(self) -> str:
        """What proxies tell each other of upstreams."""
        return f"{self.prefix}:health"

    def trial(self, upstream: str) -> str:
        """Which process may ask this upstream, that was passed over and has cooled."""
        return f"{self.prefix}:trial:{upstream}"

    @property
    def history(self) -> str:
        """What each proxy process saw of upstreams."""
        return f"{self.prefix}:history"

    @property
    def probing(self) -> str:
        """Which process probes upstreams."""
        return f"{self.prefix}:probing"

    @property
    def probes(self) -> str:
        """What the last probe of each provider found."""
        return f"{self.prefix}:probes"

    def calibration(self, day: int) -> str:
        """What proxies learned of prompts on a day, counted from 1970."""
        return f"{self.prefix}:calibration:{day}"

    @property
    def meta(self) -> str:
        """What this deployment's data was written with."""
        return f"{self.prefix}:meta"


@lru_cache(maxsize=65_536)
def _crc(tenant: str) -> int:
    return zlib.crc32(tenant.encode())


def _scope_name(tenant: str, scope: Scope) -> str:
    if scope.kind is ScopeKind.TENANT:
        return f"{scope.kind}:{tenant}"
    return f"{scope.kind}:{tenant}/{scope.id}"
