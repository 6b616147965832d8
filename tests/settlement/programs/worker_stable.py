"""Settlement workers at a fork's price: imports once, then makes a worker for each line it reads.

Arguments: Redis URL, key prefix, ledger URL, claim_idle_ms. A line is a consumer's name; the answer
is the worker's process id. At the end of the input every worker is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from metering.redis_keys import RedisKeys
from metering.settlement import worker
from metering.settlement.timing import Timing

redis_url, prefix, ledger_url, claim_idle_ms = sys.argv[1:]
timing = Timing(
    block_ms=20,
    claim_idle_ms=int(claim_idle_ms),
    claim_every_s=0.1,
    upkeep_every_s=0.2,
    retry_first_s=0.05,
    retry_max_s=0.2,
)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the killed ones
pids = []
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        keys = RedisKeys(prefix=prefix)
        asyncio.run(
            worker.run(
                redis_url,
                keys,
                ledger_url,
                stop=asyncio.Event(),
                consumer=line.strip(),
                timing=timing,
            )
        )
    pids.append(pid)
    print(pid, flush=True)
for pid in pids:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
