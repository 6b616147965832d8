"""One file per vendor that needs code; the file name is the key of `providers.*.type`.

A vendor module offers `chat_url(provider)`, `headers(provider)` and `wire` (the module of its wire
format). An OpenAI-compatible server needs no file: it is a row in config.yaml of type `openai`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Protocol, cast

from proxy.settings import Provider


class Vendor(Protocol):
    """What a vendor module offers."""

    def chat_url(self, provider: Provider) -> str:
        """Where chat completions go, absolute; built from settings only."""
        ...

    def headers(self, provider: Provider) -> Mapping[str, str]:
        """The headers that authenticate us there."""
        ...

    def output_limit_field(self, provider: Provider) -> str:
        """The field in which a limit is written that the client has not set itself."""
        ...


def vendor_types() -> tuple[str, ...]:
    """Every value `providers.*.type` may have: the names of the modules in this package."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@cache
def vendor(name: str) -> Vendor:
    """The vendor module of that name; KeyError when there is none."""
    if name not in vendor_types():
        raise KeyError(name)
    return cast("Vendor", importlib.import_module(f"{__name__}.{name}"))
