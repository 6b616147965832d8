"""Syncs a ledger with a Stripe until it is killed; says each step on a line."""

import sys

from fake_stripe import KEY
from fixtures_stripe import CUSTOMERS, HOUR, METERS

from metering.settlement.ledger.store import open_ledger
from metering.settlement.stripe_port import Sdk
from metering.settlement.stripe_sync import Sync
from metering.stripe_settings import StripeMode, StripeSettings

ledger_url, api_base, mode, now_ns, holder = sys.argv[1:]
settings = StripeSettings(
    KEY,
    METERS,
    CUSTOMERS,
    since_ns=int(now_ns) - 800 * HOUR,
    mode=StripeMode(mode),
    timeout_s=5.0,
    api_base=api_base,
)
sync = Sync(
    open_ledger(ledger_url),
    settings,
    Sdk(settings),
    holder=holder,
    clock=lambda: int(now_ns),
    at=lambda step: print(step, flush=True),
)
while True:
    sync.turn()
