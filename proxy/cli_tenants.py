"""`weir tenants`: who may spend, those of the file and those that the ledger keeps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli_options import (
    BAD_CONFIG,
    NOT_FOUND,
    echo_json,
    fail,
    load_config,
    print_table,
    shared_options,
)

if TYPE_CHECKING:
    from metering.settlement.ledger.registry_books import TenantRow
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings


@click.group()
def tenants() -> None:
    """Tenants: list, show, and make without a change of the file."""


@tenants.command("list")
@shared_options
def tenants_list(*, config_file: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Every tenant of the file and of the registry."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy.cli_registry_tables import left_out_row, tenant_row, tenants_table

    rows = [tenant_row(each) for each in settings.tenants.values() if not each.is_registered]
    rows += [
        tenant_row(served) if why is None else left_out_row(row, why)
        for row, served, why in _registered(settings, as_json)
    ]
    if as_json:
        echo_json({"tenants": rows})
    else:
        print_table(tenants_table(rows))


@tenants.command("show")
@click.argument("tenant_id")
@shared_options
def tenants_show(
    *, tenant_id: str, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """TENANT_ID of the registry: its document, as `weir tenants set --from` takes it."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy.cli_registry_tables import document_json
    from proxy.cli_times import rfc3339

    found = {row.id: (row, why) for row, _, why in _registered(settings, as_json)}
    if tenant_id not in found:
        known = settings.tenants.get(tenant_id)
        if known is not None and not known.is_registered:
            message = f"tenant {tenant_id!r} stands in {settings.source}: `weir config show`"
            fail(NOT_FOUND, message, as_json)
        fail(NOT_FOUND, f"no tenant {tenant_id!r}", as_json)
    row, why = found[tenant_id]
    body = {
        "id": row.id,
        "version": row.version,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "left_out": why,
        "document": document_json(row.document),
    }
    if as_json:
        echo_json(body)
        return
    import yaml

    if why is not None:
        click.echo(f"# not served: {why}")
    click.echo(yaml.safe_dump(body["document"], sort_keys=False, allow_unicode=True), nl=False)


def _content(command: Any) -> Any:
    for option in (
        click.option(
            "--from",
            "file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="The whole document: YAML or JSON, as an entry of `tenants` without keys.",
        ),
        click.option("--model", "models", multiple=True, help="A model it may ask for; many."),
        click.option("--project", "projects", multiple=True, help="A project of it; many."),
        click.option("--daily-cap", metavar="USD", help="USD within any 24 hours."),
        click.option("--name", help="What people call it."),
    ):
        command = option(command)
    return command


@tenants.command("create")
@click.argument("tenant_id")
@_content
@shared_options
def tenants_create(
    *,
    tenant_id: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
    **content: Any,
) -> None:
    """Make TENANT_ID; it holds without a reload."""
    settings = load_config(config_file, data_dir, as_json).settings
    document = _document({"id": tenant_id}, tenant_id, **content)
    _put(settings, document, action="tenant.create", as_json=as_json)


@tenants.command("set")
@click.argument("tenant_id")
@_content
@shared_options
def tenants_set(
    *,
    tenant_id: str,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
    **content: Any,
) -> None:
    """Change TENANT_ID: what is said takes the place of what was."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy.cli_registry import read

    def ask(ledger: Ledger) -> list[TenantRow]:
        from metering.settlement.ledger.registry_books import tenant

        return [found for found in [tenant(ledger, tenant_id)] if found is not None]

    found = read(settings, ask, as_json)
    if not found:
        message = f"the registry has no tenant {tenant_id!r}; one of the file is changed there"
        fail(NOT_FOUND, message, as_json)
    document = _document(dict(found[0].document), tenant_id, **content)
    _put(settings, document, action="tenant.set", before=found[0], as_json=as_json)


@tenants.command("remove")
@click.argument("tenant_id")
@shared_options
def tenants_remove(
    *, tenant_id: str, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Take TENANT_ID out and revoke its keys; what it used stays in the ledger."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy.cli_registry import change, when

    def work(ledger: Ledger, now_ns: int) -> tuple[TenantRow, dict[str, Any]]:
        from metering.settlement.ledger.registry_books import remove_tenant

        row = remove_tenant(ledger, tenant_id, now_ns=now_ns)
        return row, {"target": f"tenant/{tenant_id}", "before": row.document}

    _, published = change(settings, work, action="tenant.remove", as_json=as_json)
    if as_json:
        echo_json({"id": tenant_id, "removed": True, "published": published})
    else:
        click.echo(f"Tenant {tenant_id!r} is removed, its keys are revoked. {when(published)}")


def _put(
    settings: Settings,
    document: dict[str, Any],
    *,
    action: str,
    before: TenantRow | None = None,
    as_json: bool,
) -> None:
    from proxy.cli_registry import change, check_of, when
    from proxy.registry_changes import put_tenant

    def work(ledger: Ledger, now_ns: int) -> tuple[TenantRow, dict[str, Any]]:
        version = 0 if before is None else before.version
        check = check_of(settings)
        row = put_tenant(ledger, check, document, now_ns=now_ns, expected_version=version)
        old = None if before is None else before.document
        return row, {"target": f"tenant/{row.id}", "before": old, "after": row.document}

    row, published = change(settings, work, action=action, as_json=as_json)
    if as_json:
        echo_json({"id": row.id, "version": row.version, "published": published})
        return
    click.echo(f"Tenant {row.id!r} is written. {when(published)}")
    if before is None:
        click.echo(f"A key for it: weir keys create --tenant {row.id}")


def _registered(settings: Settings, as_json: bool) -> list[tuple[TenantRow, Any, str | None]]:
    """The registry's tenants, each as it is served, or why it is not."""
    from metering.settlement.ledger.registry_books import snapshot
    from metering.settlement.ledger.registry_books import tenants as rows
    from proxy.cli_registry import read
    from proxy.config_now import load_now

    found, now = read(settings, lambda ledger: (rows(ledger), snapshot(ledger)), as_json)
    assert settings.source is not None, "it was found before"
    loaded = load_now(
        settings.source, os.environ, data_dir=settings.data_dir, registry=lambda _: now
    )
    served, left_out = loaded.settings.tenants, dict(loaded.registry.left_out)
    left_out |= dict.fromkeys(loaded.registry.overruled, "stands in the file, too")
    return [(row, served.get(row.id), left_out.get(row.id)) for row in found]


def _document(
    before: dict[str, Any],
    tenant_id: str,
    *,
    file: Path | None,
    name: str | None,
    daily_cap: str | None,
    projects: tuple[str, ...],
    models: tuple[str, ...],
) -> dict[str, Any]:
    """What is said, over what was; a file is the whole of it."""
    document = before if file is None else {"id": tenant_id, **_read(file)}
    if document["id"] != tenant_id:
        raise click.UsageError(f"{file} is for tenant {document['id']!r}")
    if name is not None:
        document["name"] = name
    if models:
        document["models"] = list(models)
    if projects:
        document["projects"] = [{"id": each} for each in projects]
    if daily_cap is not None:
        limits = document.get("limits", {})
        own = {**limits.get("tenant", {}), "daily_cap": _usd(daily_cap)}
        document["limits"] = {**limits, "tenant": own}
    return document


def _read(file: Path) -> dict[str, Any]:
    """A document as the configuration file is read: numbers keep their digits."""
    from proxy.config_yaml import parse

    document = parse(file.read_text(encoding="utf-8"), {})
    if document.faults:
        fail(BAD_CONFIG, f"{file}:{document.faults[0]}", as_json=False)
    if not isinstance(document.tree, dict):
        fail(BAD_CONFIG, f"{file} holds no tenant: write a mapping", as_json=False)
    return dict(document.tree)


def _usd(text: str) -> Any:
    from metering.money import parse_decimal

    try:
        return parse_decimal(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no amount", param_hint="--daily-cap") from None
