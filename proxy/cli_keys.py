"""`weir keys`: keys of clients, those of the file and those that the ledger keeps."""

from __future__ import annotations

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
    from metering.settlement.ledger.registry_books import KeyRow
    from metering.settlement.ledger.store import Ledger
    from proxy.registry_changes import MadeKey


@click.group()
def keys() -> None:
    """Keys of clients: make, list, rotate, revoke."""


@keys.command("new")
@click.option("--tenant", required=True, help="Whose key it is.")
@click.option("--project", help="A project of the tenant; `default` if left out.")
@click.option("--id", "key_id", help="Id of the key in events; made up if left out.")
@shared_options
def keys_new(
    *,
    tenant: str,
    project: str | None,
    key_id: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a key, show it once, and print the line for the configuration."""
    from metering.ids import is_id
    from proxy.api_keys import key_sha256, new_key, public_id

    settings = load_config(config_file, data_dir, as_json).settings
    if tenant not in settings.tenants:
        fail(NOT_FOUND, f"no tenant {tenant!r} in {settings.source}", as_json)
    owner = settings.tenants[tenant]
    if owner.is_registered:
        message = f"tenant {tenant!r} stands in no file: `weir keys create --tenant {tenant}`"
        fail(BAD_CONFIG, message, as_json)
    if project is not None and project not in owner.projects:
        fail(NOT_FOUND, f"tenant {tenant!r} has no project {project!r}", as_json)
    key = new_key()
    if not is_id(key_id := public_id(key) if key_id is None else key_id):
        fail(BAD_CONFIG, f"{key_id!r} cannot be an id: letters, digits, . _ - only", as_json)
    if any(each.id == key_id for each in owner.keys):
        fail(BAD_CONFIG, f"tenant {tenant!r} has a key {key_id!r} already", as_json)
    sha256 = key_sha256(key)
    where = "" if project is None else f', project: "{project}"'
    line = f'- {{id: "{key_id}"{where}, sha256: "{sha256}"}}'
    if as_json:
        echo_json(
            {"tenant": tenant, "project": project, "id": key_id, "key": key}
            | {"sha256": sha256, "config": line}
        )
        return
    click.echo(f"The key, shown this once:\n\n  {key}\n")
    click.echo(f"Add to `keys` of tenant {tenant!r} in {settings.source}:\n\n  {line}")


@keys.command("list")
@click.option("--tenant", help="Of this tenant alone.")
@click.option("--all", "everything", is_flag=True, help="Those that are revoked or over as well.")
@shared_options
def keys_list(
    *,
    tenant: str | None,
    everything: bool,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """The keys of the file and of the registry."""
    settings = load_config(config_file, data_dir, as_json).settings
    from metering.clock import now_ns
    from metering.settlement.ledger.registry_books import keys as registered
    from proxy.cli_registry import read
    from proxy.cli_registry_tables import file_key_row, key_row, keys_table

    found: list[KeyRow] = read(settings, lambda ledger: registered(ledger, tenant), as_json)
    at_ns = now_ns()
    rows = [
        file_key_row(owner.id, key, at_ns)
        for owner in settings.tenants.values()
        if not owner.is_registered and tenant in (None, owner.id)
        for key in owner.keys
    ]
    rows += [key_row(each, at_ns) for each in found]
    shown = [row for row in rows if everything or row["live"]]
    if as_json:
        echo_json({"keys": shown})
    else:
        print_table(keys_table(shown))


@keys.command("create")
@click.option("--tenant", required=True, help="Whose key it is; a tenant of the registry.")
@click.option("--project", help="A project of the tenant; `default` if left out.")
@click.option("--id", "key_id", help="Id of the key in events; made up if left out.")
@click.option("--expires", help="When it ends: RFC 3339, or how long it lasts (`90d`).")
@shared_options
def keys_create(
    *,
    tenant: str,
    project: str | None,
    key_id: str | None,
    expires: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a key for a tenant of the registry and show it once; it holds without a reload."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy.cli_registry import change, check_of
    from proxy.registry_changes import make_key

    wish = {name: value for name, value in (("id", key_id), ("project", project)) if value}

    def work(ledger: Ledger, now_ns: int) -> tuple[MadeKey, dict[str, Any]]:
        ends_ns = _ends(expires, now_ns)
        check = check_of(settings)
        made = make_key(ledger, check, tenant, wish, now_ns=now_ns, expires_at=ends_ns)
        return made, _noted(made.row)

    made, published = change(settings, work, action="key.create", as_json=as_json)
    _show(made, published=published, as_json=as_json)


@keys.command("rotate")
@click.argument("key_id")
@click.option("--tenant", required=True, help="Whose key it is.")
@click.option(
    "--overlap-hours",
    type=click.IntRange(0, 8760),
    default=24,
    show_default=True,
    help="How long the old one opens the door beside it.",
)
@click.option("--expires", help="When the new one ends: RFC 3339, or how long it lasts (`90d`).")
@shared_options
def keys_rotate(
    *,
    key_id: str,
    tenant: str,
    overlap_hours: int,
    expires: str | None,
    config_file: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a key in the place of KEY_ID and show it once; the old one ends after a while."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy.cli_registry import change
    from proxy.registry_changes import rotate_key

    def work(ledger: Ledger, now_ns: int) -> tuple[MadeKey, dict[str, Any]]:
        overlap_ns = overlap_hours * 3_600_000_000_000
        ends_ns = _ends(expires, now_ns)
        times = {"now_ns": now_ns, "overlap_ns": overlap_ns, "expires_at": ends_ns}
        made = rotate_key(ledger, tenant, key_id, **times)  # type: ignore[arg-type] # all of one kind
        return made, _noted(made.row)

    made, published = change(settings, work, action="key.rotate", as_json=as_json)
    _show(made, published=published, as_json=as_json)


@keys.command("revoke")
@click.argument("key_id")
@click.option("--tenant", required=True, help="Whose key it is.")
@shared_options
def keys_revoke(
    *, key_id: str, tenant: str, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """KEY_ID opens the door no more; what runs with it may finish (`weir stop --key` ends it)."""
    settings = load_config(config_file, data_dir, as_json).settings
    from proxy.cli_registry import change, when
    from proxy.cli_registry_tables import key_row

    def work(ledger: Ledger, now_ns: int) -> tuple[dict[str, Any], dict[str, Any]]:
        from metering.settlement.ledger.registry_books import revoke_key

        row = revoke_key(ledger, tenant, key_id, now_ns=now_ns)
        return key_row(row, now_ns), _noted(row)

    row, published = change(settings, work, action="key.revoke", as_json=as_json)
    if as_json:
        echo_json({**row, "published": published})
        return
    click.echo(f"Key {key_id!r} of tenant {tenant!r} is revoked. {when(published)}")


def _noted(row: KeyRow) -> dict[str, Any]:
    """For the audit record: no hash, which is nobody's business."""
    after = {**row.document, "expires_at": row.expires_at, "revoked_at": row.revoked_at}
    if row.rotated_from is not None:
        after["rotated_from"] = row.rotated_from
    return {"target": f"tenant/{row.tenant}/key/{row.id}", "after": after}


def _show(made: MadeKey, *, published: bool, as_json: bool) -> None:
    from proxy.cli_registry import when
    from proxy.cli_registry_tables import key_row

    row = key_row(made.row, made.row.created_at)
    if as_json:
        echo_json({**row, "key": made.key, "published": published})
        return
    click.echo(f"The key, shown this once:\n\n  {made.key}\n")
    click.echo(f"Its id is {made.row.id}. {when(published)}")


def _ends(text: str | None, now_ns: int) -> int | None:
    """When a key ends: `90d` from now, or an RFC 3339 time."""
    if text is None:
        return None
    from proxy.cli_times import parse_since_ns

    try:
        found = parse_since_ns(text, now_ns)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    is_duration = text[:-1].isdigit() and text[-1:].isalpha()
    ends_ns = 2 * now_ns - found if is_duration else found
    if ends_ns <= now_ns:
        raise click.BadParameter(f"{text!r} is over already", param_hint="--expires")
    return ends_ns
