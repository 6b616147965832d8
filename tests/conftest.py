"""Fixtures of the whole suite live in plugins beside this file, one per thing that is started."""

import os

from hypothesis import settings

# A busy machine is slow, not wrong; and a submission is judged by the same examples each time.
settings.register_profile("weir", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "weir")

pytest_plugins = [
    "fixtures_needs",
    "fixtures_redis",
    "fixtures_cluster",
    "fixtures_caps",
    "fixtures_postgres",
    "fixtures_ledger",
    "fixtures_settlement",
    "fixtures_stripe",
    "fixtures_payments",
    "fixtures_tls",
    "fixtures_otlp",
    "fixtures_upstream",
    "fixtures_provider",
    "fixtures_door",
    "fixtures_realtime",
    "fixtures_weir",
    "fixtures_worker",
    "fixtures_outage",
    "fixtures_dashboard",
    "fixtures_console",
]
