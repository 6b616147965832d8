"""The direction of imports: proxy -> routing -> metering, settlement apart, pure rooms pure."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("proxy", "routing", "metering")

MAY_IMPORT = {
    "proxy": {"proxy", "routing", "metering"},
    "routing": {"routing", "metering"},
    "metering": {"metering"},
}

MAY_IMPORT_SETTLEMENT = (
    "proxy.cli",
    "proxy.admin",
    "proxy.dashboard",
    "proxy.settling",
    "proxy.registry_changes",
)
"""Modules that may reach the worker's side, with what lies under them and parts like `cli_x`."""

PURE = [
    "proxy.alike",
    "proxy.api_keys",
    "proxy.auth",
    "proxy.chat",
    "proxy.egress",
    "proxy.sse",
    "proxy.errors",
    "proxy.limit_words",
    "proxy.limits_report",
    "proxy.metrics",
    "proxy.metrics_catalogue",
    "proxy.metrics_exchange",
    "proxy.multipart",
    "proxy.passthrough_bodies",
    "proxy.passthrough_lists",
    "proxy.passthrough_paths",
    "proxy.passthrough_plan",
    "proxy.passthrough_prices",
    "proxy.passthrough_rules",
    "proxy.passthrough_usage",
    "proxy.realtime_usage",
    "proxy.retry_after",
    "proxy.settings",
    "proxy.settings_changes",
    "proxy.standing",
    "proxy.told_usage",
    "proxy.config",
    "proxy.config_alerts",
    "proxy.config_anomalies",
    "proxy.config_anomalies_shape",
    "proxy.config_build",
    "proxy.config_charges",
    "proxy.config_decode",
    "proxy.config_invoices_shape",
    "proxy.config_limits",
    "proxy.config_limits_shape",
    "proxy.config_models",
    "proxy.config_models_shape",
    "proxy.config_network",
    "proxy.config_passthrough",
    "proxy.config_passthrough_shape",
    "proxy.config_plans",
    "proxy.config_plans_shape",
    "proxy.config_prices",
    "proxy.config_shape",
    "proxy.config_tenants",
    "proxy.config_stripe",
    "proxy.config_stripe_shape",
    "proxy.config_values",
    "proxy.config_yaml",
    "proxy.cli_times",
    "proxy.wire.*",
    "proxy.vendors.*",
    "routing.*",
    "metering.money",
    "metering.usage",
    "metering.tenants",
    "metering.plans",
    "metering.prices",
    "metering.ids",
    "metering.tokenizer",
    "metering.meter",
    "metering.caps",
    "metering.window",
    "metering.events",
    "metering.fullness",
    "metering.recovery",
    "metering.caps_model",
    "metering.ownership",
    "metering.hold_records",
    "metering.local_codec",
    "metering.registry",
    "metering.redis_keys",
    "metering.tolerances",
    "metering.seq_ranges",
    "metering.stripe_settings",
    "metering.invoice_settings",
    "metering.settlement.documents",
    "metering.settlement.document_rows",
    "metering.settlement.document_csv",
    "metering.settlement.document_focus",
    "metering.settlement.document_html",
    "metering.settlement.line_events",
    "metering.stripe_signature",
    "metering.callbacks",
    "metering.settlement.stripe_moves",
    "metering.settlement.payments",
    "metering.settlement.utc",
    "metering.settlement.webhooks",
    "metering.webhook_settings",
    "proxy.config_webhooks",
    "proxy.config_webhooks_shape",
    "metering.spool_codec",
    "metering.settlement.journal",
    "metering.settlement.rating",
    "metering.settlement.charges",
    "metering.settlement.grants",
    "metering.settlement.lateness",
    "metering.settlement.metered",
    "metering.settlement.statements",
    "metering.settlement.invoices",
    "metering.settlement.reconcile",
    "metering.settlement.reconcile_money",
    "metering.settlement.exports.anthropic",
    "metering.settlement.exports.openai",
    "metering.settlement.exports.rows",
    "metering.settlement.alerts",
    "metering.settlement.counting",
    "metering.settlement.crossings",
    "metering.settlement.drift",
    "metering.settlement.anomalies",
    "metering.settlement.velocity",
    "metering.settlement.notes",
    "metering.settlement.doctor",
    "metering.settlement.doctor_facts",
    "metering.settlement.internal",
    "metering.settlement.margins",
]
"""The rooms without I/O, clock, chance and logging; what is not built yet is passed over."""

SHELLS = frozenset({"proxy.vendors.bedrock.credentials"})
"""Among the pure rooms: AWS' keys are found by code that blocks, and so by a thread."""

IMPURE = frozenset(
    {"aiohttp", "asyncio", "logging", "random", "redis", "socket", "structlog", "time"}
)


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that `module` imports, inside functions too, but not for type checking only."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    return frozenset(_imports(tree))


def _imports(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports are not used here"
            assert child.module is not None
            inner = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (each if each in modules() else child.module for each in inner)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        else:
            yield from _imports(child)


def _pure() -> list[str]:
    names = set()
    for pattern in PURE:
        head = pattern.removesuffix(".*")
        for module in modules():
            if module == pattern or (head != pattern and module.startswith(f"{head}.")):
                names.add(module)
    return sorted(name for name in names - SHELLS if not _prepares(name))


def _prepares(module: str) -> bool:
    """Whether it is a vendor whose calls are signed or need a token: a shell by what it offers."""
    is_vendor = module.startswith("proxy.vendors.")
    return is_vendor and "\nasync def prepare(" in modules()[module].read_text(encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    """proxy knows routing and metering, routing knows metering, metering knows neither."""
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        if module.split(".")[0] == package
        for name in imports(module)
        if name.split(".")[0] in PACKAGES and name.split(".")[0] not in MAY_IMPORT[package]
    ]

    assert wrong == []


def test_the_request_path_cannot_reach_settlement() -> None:
    """Only the worker's own rooms and four of the door import metering.settlement."""
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        for name in imports(module)
        if name.startswith("metering.settlement")
        and not module.startswith("metering.settlement")
        and not any(
            module == each or module.startswith((f"{each}.", f"{each}_"))
            for each in MAY_IMPORT_SETTLEMENT
        )
    ]

    assert wrong == []


def test_there_are_no_cycles() -> None:
    """No module imports itself by way of others, not even inside a function."""
    graph = {module: imports(module) & modules().keys() - {module} for module in modules()}

    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", _pure())
def test_pure_rooms_are_pure(module: str) -> None:
    """A pure module imports nothing that does I/O or reads a clock, nor does what it imports."""
    waiting, seen, wrong = [module], set(), []
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        wrong += [
            f"{current} imports {name}" for name in imports(current) if name.split(".")[0] in IMPURE
        ]
        waiting += [name for name in imports(current) if name in modules()]

    assert wrong == []


def test_routing_never_waits() -> None:
    """Choosing is synchronous."""
    waiting = [
        f"{module}.{node.name}"
        for module, path in modules().items()
        if module.startswith("routing")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef)
    ]

    assert waiting == []
