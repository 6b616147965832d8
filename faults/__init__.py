"""The fault runner: kills, stops and starves a real installation under load, then verifies it.

    python -m faults run --kills 300 --seed 1      one run, a report as JSON
    python -m faults list                          what can be struck

The installation is what users run: `weir serve` with several proxies and its settlement worker, a
redis-server of its own, a scripted upstream on a socket. Three journals are kept outside of it, by
the upstream, the clients and a sampler; afterwards `weir verify` holds them against the ledger.
"""
