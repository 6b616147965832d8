"""`weir keys admin`: a key of the admin API for the configuration file."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli_options import BAD_CONFIG, echo_json, fail, load_config, shared_options


@click.command("admin")
@click.option("--id", "key_id", required=True, help="Its name in the audit trail.")
@click.option(
    "--role",
    type=click.Choice(["viewer", "billing", "admin"]),
    default="viewer",
    show_default=True,
    help="What it may.",
)
@shared_options
def keys_admin(
    *, key_id: str, role: str, config_file: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Make a key of the admin API, show it once, and print the line for the configuration."""
    from metering.ids import is_id
    from proxy.api_keys import key_sha256, new_admin_key

    settings = load_config(config_file, data_dir, as_json).settings
    if not is_id(key_id):
        fail(BAD_CONFIG, f"{key_id!r} cannot be an id: letters, digits, . _ - only", as_json)
    if any(each.id == key_id for each in settings.admin_keys):
        fail(BAD_CONFIG, f"there is an admin key {key_id!r} already", as_json)
    key = new_admin_key()
    sha256 = key_sha256(key)
    line = f'- {{id: "{key_id}", role: {role}, sha256: "{sha256}"}}'
    if as_json:
        echo_json({"id": key_id, "role": role, "key": key, "sha256": sha256, "config": line})
        return
    click.echo(f"The key, shown this once:\n\n  {key}\n")
    click.echo(f"Add to `admin.keys` in {settings.source}:\n\n  {line}")
