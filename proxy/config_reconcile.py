"""From `providers.NAME.reconcile` to whom to ask what was used."""

from __future__ import annotations

from metering.money import to_ppm
from proxy.config_decode import Findings
from proxy.config_network import check_base_url
from proxy.config_reconcile_shape import ReconcileShape
from proxy.config_yaml import Path
from proxy.settings import Reconcile, Secret

ASKED = ("openai", "anthropic")
"""Types of providers that can be asked; the others have no such API."""


def build_reconcile(
    path: Path, written: ReconcileShape | None, type_: str, findings: Findings
) -> Reconcile | None:
    """The section as settings, with its faults noted; None without the section."""
    if written is None:
        return None
    path = (*path, "reconcile")
    key_path = (*path, "admin_key")
    unset = findings.document.unset.get(key_path)
    if written.admin_key and unset is None and findings.document.literal(key_path):
        findings.secret(key_path, "a credential in clear text", "write ${NAME}")
    if written.admin_key is not None and type_ not in ASKED:
        findings.fault(
            key_path,
            f"a provider of type {type_} cannot be asked what was used",
            f"those of type {' and '.join(ASKED)} can; files can be imported for any",
        )
    if written.url is not None:
        example = "https://api.openai.com/v1"
        check_base_url((*path, "url"), written.url, findings, example=example)
    try:
        alert_ppm = to_ppm(written.alert_at)
    except ValueError as error:
        findings.fault((*path, "alert_at"), str(error), "write 0.15 for 15 %")
        alert_ppm = 0
    return Reconcile(
        admin_key=Secret(written.admin_key) if written.admin_key and unset is None else None,
        unset=unset,
        url=written.url or "",
        project_ids=frozenset(written.project_ids),
        api_key_ids=frozenset(written.api_key_ids),
        models=dict(written.models),
        alert_ppm=alert_ppm,
    )
