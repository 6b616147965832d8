"""`weir` as it is, but that holds lapse, are checkpointed and are recovered within seconds.

With `FIRST_CHECKPOINT_S` in the environment the first checkpoint comes so late.
"""

import os
from functools import partial

from metering.settlement import worker
from metering.settlement.timing import Timing
from proxy import renewals, services
from proxy.cli import main
from proxy.door import HoldTimes

if __name__ == "__main__":
    renewals.TURN_EVERY_S = 0.1
    times = HoldTimes(
        ttl_ms=1_500,
        renew_every_s=0.5,
        first_checkpoint_s=float(os.environ.get("FIRST_CHECKPOINT_S", "0.2")),
        checkpoint_every_s=0.2,
    )
    services.Renewals = partial(services.Renewals, times=times)
    worker.Timing = partial(
        Timing, block_ms=50, upkeep_every_s=0.1, recover_after_s=1.0, spools_wait_s=1.2
    )
    main()
