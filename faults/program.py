"""`weir` as it is, but for the times that a run would otherwise have to wait for.

Holds lapse after 12 seconds instead of three minutes, and what is lost is recovered, claimed and
compared within seconds. `--timing production` leaves all of them as they are.
"""

from functools import partial

from metering.settlement import worker
from metering.settlement.timing import Timing
from proxy import services
from proxy.cli import main
from proxy.door import HoldTimes

if __name__ == "__main__":
    services.Renewals = partial(
        services.Renewals, times=HoldTimes(ttl_ms=12_000, renew_every_s=4.0)
    )
    worker.Timing = partial(
        Timing,
        upkeep_every_s=1.0,
        recover_after_s=5.0,
        claim_every_s=2.0,
        claim_idle_ms=5_000,
        drift_every_s=5.0,
    )
    main()
