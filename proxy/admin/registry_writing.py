"""Writing to the registry: documents checked as the configuration file is, then kept, then told.

Rules: a document that would be left out when it is read is not written in the first place; what the
configuration file has is changed there; a change is published at once, and where Redis is away the
settlement worker does it later.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar

from redis.exceptions import RedisError

from metering.settlement.ledger.registry_books import (
    RegistryConflictError,
    RegistryMissingError,
)
from metering.settlement.ledger.store import Ledger
from metering.settlement.registry_publishing import publish as publish_snapshot
from proxy.admin.errors import Conflict, FieldRefused, NotFound, ReadOnly
from proxy.admin.opened import Console
from proxy.config import ConfigFaults
from proxy.config_schema import config_schema
from proxy.registry_changes import ChangeRefusedError, Check, checker
from proxy.settings import Settings

_Found = TypeVar("_Found")

_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,12})?")


async def in_books(console: Console, work: Callable[[Ledger], _Found]) -> _Found:
    """What `work` makes of the registry's books; what they refuse becomes a refusal."""
    try:
        return await console.ask(work)
    except RegistryConflictError as error:
        raise Conflict(f"{error}.") from None
    except RegistryMissingError as error:
        raise NotFound(f"{error}.") from None
    except ChangeRefusedError as error:
        place, colon, _ = str(error).partition(": ")
        raise FieldRefused(f"{error}.", param=place[:128] if colon else None) from None
    except ConfigFaults as faults:
        raise Conflict(
            f"The configuration file has faults, so nothing can be checked beside it: {faults}"
        ) from None


async def publish(console: Console) -> bool:
    """Tell every proxy; whether Redis has taken it."""
    ledger = await console.in_thread(console.ledger)
    try:
        await publish_snapshot(console.redis.execute_command, console.keys, ledger)
    except (RedisError, OSError) as error:
        console.log.warning("registry_not_published", cause=type(error).__name__)
        return False
    return True


def need_registered(settings: Settings, tenant_id: str) -> None:
    """ReadOnly for a tenant of the file."""
    found = settings.tenants.get(tenant_id)
    if found is not None and not found.is_registered:
        raise ReadOnly(
            f"The tenant {tenant_id!r} is in the configuration file: change it there, and reload."
        )


def check_of(settings: Settings) -> Check:
    """Checks what is to be written against the file that is served."""
    assert settings.source is not None, "`weir serve` always reads a file"
    return checker(settings.source, os.environ, settings.data_dir)


def exact(document: Mapping[str, Any], shape: str) -> dict[str, Any]:
    """The same with numbers that came as text (`"50.00"`) as numbers, where only these can stand.

    JSON readers make binary fractions of amounts; so amounts are answered, and taken, as text.
    """
    found = _exact(document, {"$ref": f"#/$defs/{shape}"})
    assert isinstance(found, dict), "the body was checked to be an object"
    return found


@cache
def shapes() -> Mapping[str, Any]:
    """The schemas of the configuration's sections, by their names."""
    found: Mapping[str, Any] = config_schema()["$defs"]
    return found


def _exact(value: Any, schema: Mapping[str, Any]) -> Any:
    forms = list(_forms(schema))
    if isinstance(value, str):
        kinds = {kind for form in forms for kind in _kinds(form)}
        takes_numbers = kinds & {"number", "integer"} and "string" not in kinds
        if takes_numbers and _DECIMAL.fullmatch(value):
            return Decimal(value) if "." in value else int(value)
        return value
    if isinstance(value, Mapping):
        others: Mapping[str, Any]
        known = {name: form for each in forms for name, form in each.get("properties", {}).items()}
        others = next((each["additionalProperties"] for each in forms if _is_open(each)), {})
        return {name: _exact(inner, known.get(name, others)) for name, inner in value.items()}
    if isinstance(value, list):
        items: Mapping[str, Any] = next((each["items"] for each in forms if "items" in each), {})
        return [_exact(each, items) for each in value]
    return value


def _forms(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a value may be; variables are for files alone."""
    found: list[Mapping[str, Any]] = []
    for each in schema.get("anyOf", [schema]):
        name = each.get("$ref", "").rpartition("/")[2]
        if name and name != "Variable":
            found += _forms(shapes()[name])
        elif not name:
            found.append(each)
    return found


def _kinds(form: Mapping[str, Any]) -> list[str]:
    kind = form.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def _is_open(form: Mapping[str, Any]) -> bool:
    return isinstance(form.get("additionalProperties"), Mapping)
