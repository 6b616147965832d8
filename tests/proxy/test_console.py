"""The console as a child of `weir serve`."""

from __future__ import annotations

import stat
import urllib.error
import urllib.request

import orjson
import pytest
from fixtures_weir import Weir

from proxy.admin_key_file import admin_key_path


def test_serve_makes_the_first_key_and_says_where(weir: Weir) -> None:
    """The banner names the address and the file, and never the key; only its owner can read it."""
    path = admin_key_path(weir.data_dir)
    key = path.read_text().strip()
    asked = urllib.request.Request(
        f"{weir.admin_url}/admin/v1/whoami", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        found = orjson.loads(answer.read())

    assert found == {"id": "minted", "role": "admin", "by_session": False}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"{weir.admin_url}/admin/v1/" in weir.banner
    assert str(path) in weir.banner and key not in weir.banner


def test_the_port_of_requests_has_no_admin_api(weir: Weir) -> None:
    """Not even with an admin key: it is another process, on another port."""
    key = admin_key_path(weir.data_dir).read_text().strip()
    asked = urllib.request.Request(
        f"{weir.url}/admin/v1/whoami", headers={"Authorization": f"Bearer {key}"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=10)

    refused.value.close()
    assert refused.value.code == 404
