"""From the section `providers` to accounts at vendors: what a vendor needs, its module knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path as FilePath

from proxy import vendors
from proxy.config_decode import Findings, suggest
from proxy.config_network import build_ca_file, check_base_url
from proxy.config_reconcile import build_reconcile
from proxy.config_shape import ProviderShape
from proxy.config_slips import check_slips, type_hint
from proxy.config_tenants import check_id
from proxy.config_yaml import Path
from proxy.settings import Probe, Provider, Secret
from proxy.vendors import Vendor, VendorOption

EXAMPLE_URL = "https://api.openai.com/v1"


def build_provider(
    name: str, written: ProviderShape, findings: Findings, directory: FilePath
) -> Provider:
    """The account, as far as it is sound; `unavailable` where a variable of it is not set."""
    path: Path = ("providers", name)
    check_id(name, path, "provider", (), findings)
    if written.type not in vendors.vendor_types():
        hint = type_hint(written.type, vendors.vendor_types())
        findings.fault((*path, "type"), f"unknown vendor {written.type!r}", hint)
        return Provider(name=name, type=written.type, base_url="")
    vendor = vendors.vendor(written.type)
    base_url = _base_url(path, written, vendor, findings)
    key_path = (*path, "api_key")
    variable = findings.document.unset.get(key_path)
    if variable is None and written.api_key and findings.document.literal(key_path):
        findings.secret(key_path, "a credential in clear text", f"write ${{{_variable_for(name)}}}")
    options, missing = _options(path, written.options, vendor, findings)
    unavailable = "its api_key is empty" if written.api_key == "" else None
    if unset := [*([] if variable is None else [variable]), *missing]:
        unavailable = _not_set(unset)
    provider = Provider(
        name=name,
        type=written.type,
        base_url=base_url,
        api_key=Secret(written.api_key) if written.api_key else None,
        timeout_s=float(written.timeout_s),
        connect_timeout_s=float(written.connect_timeout_s),
        first_event_timeout_s=_seconds(written.first_event_timeout_s),
        stall_timeout_s=_seconds(written.stall_timeout_s),
        stream_usage=written.stream_usage,
        max_answer_s=float(written.max_answer_s),
        max_answer_mb=written.max_answer_mb,
        ca_file=build_ca_file((*path, "ca_file"), written.ca_file, findings, directory),
        unavailable=unavailable,
        options=options,
        drop_unsupported=written.drop_unsupported,
        probe=_probe(path, written, vendor, findings),
        reconcile=build_reconcile(path, written.reconcile, written.type, findings),
    )
    check_slips(provider, written, findings)
    return provider


def _not_set(variables: Sequence[str]) -> str:
    names = list(dict.fromkeys(variables))
    if len(names) == 1:
        return f"environment variable {names[0]} is not set"
    return f"environment variables {', '.join(names)} are not set"


def _base_url(path: Path, written: ProviderShape, vendor: Vendor, findings: Findings) -> str:
    if written.base_url is None and vendor.BASE_URL is None:
        findings.fault((*path, "base_url"), f"a provider of type {written.type} needs one")
        return ""
    base_url = (written.base_url or vendor.BASE_URL or "").rstrip("/")
    check_base_url((*path, "base_url"), base_url, findings, example=EXAMPLE_URL)
    return base_url


def _options(
    path: Path, written: Mapping[str, str], vendor: Vendor, findings: Findings
) -> tuple[dict[str, str | Secret], list[str]]:
    """The vendor's options, and the variables of them that are not set: nothing can be called."""
    options: dict[str, str | Secret] = {}
    missing: list[str] = []
    for name, value in written.items():
        at = (*path, "options", name)
        known = vendor.OPTIONS.get(name)
        if known is None:
            hint = suggest(name, vendor.OPTIONS) or f"known here: {', '.join(vendor.OPTIONS)}"
            findings.fault(at, f"unknown option {name!r}", hint)
        elif (variable := findings.document.unset.get(at)) is not None:
            missing.append(variable)
        elif known.is_secret:
            if findings.document.literal(at):
                findings.secret(at, "a credential in clear text", "write ${NAME}")
            options[name] = Secret(value)
        else:
            options[name] = value
            _check_value(at, value, known, findings)
        for other in known.needs if known is not None else ():
            if other not in written:
                findings.fault(at, f"means nothing without {other!r}", "give both, or neither")
    for name, option in vendor.OPTIONS.items():
        if option.is_required and name not in written:
            findings.fault((*path, "options"), f"lacks {name!r}: {option.about}")
    return options, missing


def _check_value(path: Path, value: str, option: VendorOption, findings: Findings) -> None:
    for word in value.split(",") if option.is_list else [value]:
        if option.values and word.strip() not in option.values:
            hint = suggest(word.strip(), option.values)
            known = ", ".join(option.values)
            findings.fault(path, f"{word.strip()!r} is none of {known}", hint)


def _probe(path: Path, written: ProviderShape, vendor: Vendor, findings: Findings) -> Probe | None:
    if (shape := written.probe) is None:
        return None
    path = (*path, "probe")
    found = vendors.models_path(vendor) if shape.path is None else shape.path
    if found is None:
        findings.fault(path, f"a provider of type {written.type} needs its path", "as /models")
        return None
    if not found.startswith("/") or not found.isascii() or not found.isprintable() or " " in found:
        findings.fault((*path, "path"), f"{found!r} is no path", "as /models")
        return None
    return Probe(found, float(shape.every_s), float(shape.timeout_s))


def _seconds(written: Decimal | None) -> float | None:
    return None if written is None else float(written)


def _variable_for(name: str) -> str:
    return f"{name.upper().replace('-', '_').replace('.', '_')}_API_KEY"
