"""Which changes hold at once and which wait, over every field and every key of the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_door import settings, tenant

from proxy.config_decode import shape_keys
from proxy.settings import Provider, Secret, Server, Settings, Tls
from proxy.settings_changes import (
    AFTER_A_RESTART,
    AT_ONCE,
    GIVEN,
    NESTED,
    every_field,
    replaced,
)

RUNNING = settings({"one": "http://one"})


def test_every_field_is_classified_once() -> None:
    """A new field has to be thought about before it can be merged."""
    classified = [*AT_ONCE, *AFTER_A_RESTART, *GIVEN]

    assert sorted(classified) == sorted(every_field(RUNNING))


def test_every_key_of_the_file_belongs_to_a_classified_one() -> None:
    """What the tables call a key is one, and no key of the file is left out."""
    keys, named = set(shape_keys()), {*AT_ONCE.values(), *AFTER_A_RESTART.values()}
    whole = {
        "limits",
        "providers",
        "models",
        "pricing",
        "tenants",
        "meters",  # in every plan that charges by them
        "credits",
    }  # their contents are told by name

    def is_covered(key: str) -> bool:
        parts = key.replace("[]", "").split(".")
        heads = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        return bool(heads & (named | whole)) or key in NESTED

    sections = {"ledger", "alerts"}
    assert [key for key in sorted(keys) if not is_covered(key) and key not in sections] == []
    made_up = {"tenants.keys.mint", "tenants.plan", "tenants.registry"}
    assert [name for name in sorted(named - made_up) if name not in keys] == []


def _server(**changes: object) -> Settings:
    return replace(RUNNING, server=replace(RUNNING.server, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fresh", "applied", "waiting"),
    [
        (RUNNING, (), ()),
        (_server(max_body_mb=1), ("server.max_body_mb",), ()),
        (_server(port=1, max_drains=3), ("server.max_drains",), ("server.port",)),
        (replace(RUNNING, data_dir=Path("/elsewhere")), (), ("data_dir",)),
        (replace(RUNNING, models={}), ("models.m",), ()),
        (
            replace(RUNNING, redis=replace(RUNNING.redis, url=Secret("redis://x"), prefix="p")),
            (),
            ("redis.url", "redis.prefix"),
        ),
        (
            replace(RUNNING, ledger_url="postgresql://x", on_exhausted="error"),
            ("limits.on_exhausted",),
            ("ledger.url",),
        ),
        (_server(tls=Tls(Path("c"), Path("k"))), (), ("server.tls",)),
    ],
    ids=["nothing", "server", "port", "data_dir", "model", "redis", "ledger", "tls"],
)
def test_what_cannot_change_waits_and_the_rest_holds(
    fresh: Settings, applied: tuple[str, ...], waiting: tuple[str, ...]
) -> None:
    """Names of both, and settings that differ from the running ones in what is applied only."""
    found = replaced(RUNNING, fresh)

    assert (found.applied, found.waiting) == (applied, waiting)
    assert replaced(RUNNING, found.settings).waiting == ()
    assert replaced(found.settings, found.settings).applied == ()
    assert (found.settings == RUNNING) is (not applied)


def test_names_are_told_and_no_secret() -> None:
    """A key of a provider that was changed shows by the provider's name."""
    provider = replace(RUNNING.providers["one"], api_key=Secret("sk-very-secret"))
    found = replaced(RUNNING, replace(RUNNING, providers={"one": provider}))

    assert found.applied == ("providers.one",)
    assert "sk-very" not in repr(found)


def test_tenants_are_named_one_by_one() -> None:
    """Who came, who changed and who went; not who stayed."""
    acme, umbra = tenant(), replace(tenant(), id="umbra")
    before = replace(RUNNING, tenants={"acme": acme, "gone": replace(acme, id="gone")})
    after = replace(RUNNING, tenants={"acme": acme, "umbra": umbra})

    assert replaced(before, after).applied == ("tenants.gone", "tenants.umbra")


def test_other_certificates_hold_at_once() -> None:
    """Only to begin or to end TLS takes a restart."""
    tls = Tls(Path("c"), Path("k"))
    running = replace(RUNNING, server=Server(tls=tls))
    fresh = replace(RUNNING, server=Server(tls=replace(tls, min_version="TLSv1.3")))

    assert replaced(running, fresh).applied == ("server.tls",)
    assert replaced(running, fresh).settings.server == fresh.server


def test_a_first_simulator_waits_and_says_so_to_requests() -> None:
    """It is a process of its own; until it runs the provider cannot be called, and says why."""
    simulated = Provider(name="sim", type="simulator", base_url="")
    found = replaced(RUNNING, replace(RUNNING, providers={**RUNNING.providers, "sim": simulated}))

    assert found.waiting == ("providers.sim",)
    assert "next start" in str(found.settings.providers["sim"].unavailable)
