"""Books payments of a Stripe until it is killed; says each step on a line."""

import sys

from fake_stripe import KEY
from fixtures_payments import TENANTS
from fixtures_stripe import CUSTOMERS

from metering.settlement.ledger.store import open_ledger
from metering.settlement.payments_booking import Payments
from metering.settlement.payments_port import PaymentsSdk
from metering.stripe_settings import StripeSettings

ledger_url, api_base, now_ns = sys.argv[1:]
settings = StripeSettings(KEY, (), CUSTOMERS, since_ns=0, timeout_s=5.0, api_base=api_base)
payments = Payments(
    open_ledger(ledger_url),
    PaymentsSdk(settings),
    customers=CUSTOMERS,
    tenants=TENANTS,
    clock=lambda: int(now_ns),
    at=lambda step: print(step, flush=True),
)
while True:
    payments.turn()
