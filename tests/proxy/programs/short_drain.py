"""`weir` as it is, but that streams may go on for half a second only after a stop."""

from functools import partial

from proxy import supervisor
from proxy.cli import main

if __name__ == "__main__":
    supervisor.serve = partial(supervisor.serve, drain_s=0.5)
    main()
