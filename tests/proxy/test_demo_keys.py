"""Minted keys: made once, read again, never half written."""

import dataclasses
import errno
import os
import re
import stat

import pytest

from metering.prices import PriceBook
from metering.tenants import ApiKey, SpendLimits, Tenant
from proxy import demo_keys
from proxy.api_keys import key_sha256
from proxy.demo_keys import KeyFileError, key_path, mint
from proxy.settings import Metering, MintedKey, RedisSettings, Server, Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(
        source=None,
        server=Server(),
        data_dir=tmp_path,
        redis=RedisSettings(),
        ledger_url="sqlite://",
        providers={},
        models={},
        prices=PriceBook(),
        tenants={"demo": Tenant(id="demo", name="Demo", limits=SpendLimits())},
        metering=Metering(),
        minted_keys=(MintedKey("demo", "first", "default"),),
    )


def test_the_key_is_made_once(settings, tmp_path):
    """Two starts give the same key, which stands in a private file and opens the tenant's door."""
    _, [first] = mint(settings)
    after, [second] = mint(settings)

    path = key_path(tmp_path, "demo", "first")
    assert first == second
    assert path.read_text() == first.reveal() + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert after.tenants["demo"].keys == (ApiKey("first", key_sha256(first.reveal()), "default"),)
    assert [each.name for each in path.parent.iterdir()] == ["demo.first"]


def test_what_is_there_is_read_and_nothing_written(settings, tmp_path, monkeypatch):
    """A start on a full disk has its keys; one that cannot make them says so in a line."""
    _, [made] = mint(settings)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(demo_keys, "_write_once", full)
    assert mint(settings)[1] == [made]
    key_path(tmp_path, "demo", "first").unlink()
    with pytest.raises(KeyFileError, match=r"demo\.first: No space left on device"):
        mint(settings)


def test_other_keys_of_the_tenant_stay(settings):
    """A minted key takes the place of the one with its id, and of no other."""
    keys = (ApiKey("own", "00", "default"), ApiKey("first", "", "default"))
    tenant = dataclasses.replace(settings.tenants["demo"], keys=keys)

    after, _ = mint(dataclasses.replace(settings, tenants={"demo": tenant}))

    assert [key.id for key in after.tenants["demo"].keys] == ["own", "first"]
    assert len(after.tenants["demo"].keys[1].sha256) == 64


@pytest.mark.parametrize("text", ["", "sk-weir-short", "é" * 64])
def test_a_spoilt_file_is_named(settings, tmp_path, text):
    """It is neither used nor overwritten: a person decides."""
    path = key_path(tmp_path, "demo", "first")
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(KeyFileError, match=re.escape(str(path))):
        mint(settings)
    assert path.read_text() == text
