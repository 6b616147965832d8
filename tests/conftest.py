"""Shared by all tests: plugins with fixtures, one file per thing that is started."""

pytest_plugins = ["tests.fixtures_redis", "tests.fixtures_ledger"]
