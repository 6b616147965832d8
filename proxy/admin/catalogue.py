"""Every route of the console: the ROUTES of each module in `proxy.admin`, and of the dashboard.

A resource is one new file; nothing else is to be touched for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from functools import cache

from proxy.admin.routes import Route

_PACKAGES = ("proxy.admin", "proxy.dashboard")


@cache
def routes() -> tuple[Route, ...]:
    """All of them; ValueError where two answer the same method of the same path."""
    found: dict[tuple[str, str], Route] = {}
    for name in _modules():
        for route in getattr(importlib.import_module(name), "ROUTES", ()):
            at = route.method, route.path
            if at in found:
                raise ValueError(f"two routes answer {route.method} {route.path}")
            found[at] = route
    return tuple(found.values())


def _modules() -> list[str]:
    names = []
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.submodule_search_locations is None:
            continue
        inside = pkgutil.iter_modules(spec.submodule_search_locations, prefix=f"{package}.")
        names += [package, *sorted(each.name for each in inside)]
    return names
