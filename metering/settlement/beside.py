"""What the worker does beside settlement for as long as it runs: with the world outside, and by the
clock.

Each of these is off unless it is configured, and none of them stops another, or settlement.
"""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from metering.redis_keys import RedisKeys
from metering.settlement.common_keys import CommonKeys
from metering.settlement.job_loop import JobLoop
from metering.settlement.ledger.store import Ledger
from metering.settlement.payments_loop import PaymentsLoop
from metering.settlement.stripe_loop import StripeLoop
from metering.settlement.terms import Offer
from metering.settlement.watch import Log, Watch
from metering.settlement.webhooks_loop import WebhooksLoop
from metering.stripe_settings import StripeSettings


async def run_beside(
    ledger: Ledger,
    redis: Redis,
    keys: RedisKeys,
    offer: Offer,
    *,
    over: asyncio.Event,
    is_cluster: bool,
    log: Log,
    watch: Watch,
) -> None:
    """Stripe's meters, payments from there, messages to others, and jobs, until `over`."""

    def metered() -> StripeSettings | None:
        stripe = offer.terms.stripe
        return stripe if stripe is not None and stripe.meters else None

    common = CommonKeys(keys.callbacks, is_cluster=is_cluster, log=log)
    payments = PaymentsLoop(
        ledger, redis, keys.callbacks, offer, common=common, log=log, watch=watch
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(StripeLoop(ledger, metered, log=log, watch=watch).run(over))
        group.create_task(payments.run(over))
        group.create_task(WebhooksLoop(ledger, offer, log=log, watch=watch).run(over))
        jobs = JobLoop(ledger, lambda: offer.terms.jobs, log=log, watch=watch)
        group.create_task(jobs.run(over))
