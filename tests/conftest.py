"""Fixtures of the whole suite live in plugins beside this file, one per thing that is started."""

pytest_plugins = [
    "fixtures_needs",
    "fixtures_redis",
    "fixtures_caps",
    "fixtures_ledger",
    "fixtures_upstream",
    "fixtures_door",
    "fixtures_weir",
]
