"""One file per vendor that needs code; the file name is the key of `providers.*.type`.

A vendor knows addresses, credentials and which wire formats are spoken there; the formats know the
rest. An OpenAI-compatible server needs no file: it is a row in config.yaml of type `openai`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, cast

from proxy.settings import Provider
from proxy.transport import Call, Transport


@dataclass(frozen=True, slots=True)
class VendorOption:
    """A key that `providers.NAME.options` may have at this vendor: `about` is for its users.

    `values` are all that it may be (each of a list with commas, where `is_list`); `needs` are other
    options without which it means nothing.
    """

    about: str
    is_secret: bool = False
    is_required: bool = False
    values: tuple[str, ...] = ()
    is_list: bool = False
    needs: tuple[str, ...] = ()


class Vendor(Protocol):
    """What a vendor module offers."""

    BASE_URL: str | None
    """Where it is when the provider gives no `base_url`; None where one has to be given."""
    OPTIONS: Mapping[str, VendorOption]

    def formats(self, provider: Provider) -> Sequence[str]:
        """The wire formats that are spoken there. A request in one of them is relayed as it is, any
        other one translated into the first that can be."""
        ...

    def url(self, provider: Provider, *, format: str, model: str, stream: bool) -> str:  # noqa: A002
        """Where a request in this format goes, absolute; built from settings only."""
        ...

    def headers(self, provider: Provider) -> Mapping[str, str]:
        """The headers that authenticate us there, and others that every call needs."""
        ...

    def output_limit_field(self, provider: Provider) -> str:
        """Where a chat completion has the limit that the client has not set itself."""
        ...


class ChoosyVendor(Vendor, Protocol):
    """One that lets not every header of a client go on."""

    def of_client(self, provider: Provider, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Those that do, of the headers that a client's format passes on."""
        ...


class SigningVendor(Vendor, Protocol):
    """One whose calls need more than headers that are known beforehand."""

    async def prepare(self, provider: Provider, call: Call, transport: Transport) -> Call:
        """The call, signed or with a token, for which `transport` may be asked; TransportError when
        none is to be had."""
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


def signing(found: Vendor) -> SigningVendor | None:
    """The vendor, if its calls have to be prepared."""
    return cast("SigningVendor", found) if hasattr(found, "prepare") else None


def models_path(found: Vendor) -> str | None:
    """Where, after the base URL, the vendor lists its models; None where that has no one place."""
    path: str | None = getattr(found, "MODELS_PATH", None)
    return path


def of_client(found: Vendor, provider: Provider, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of a client that go on to this vendor."""
    if not headers or not hasattr(found, "of_client"):
        return headers
    return cast("ChoosyVendor", found).of_client(provider, headers)
