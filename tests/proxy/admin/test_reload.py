"""A reload asked for over HTTP, of a real `weir serve`."""

from __future__ import annotations

import urllib.request

import orjson
from fixtures_weir import Weir

from proxy.admin_key_file import admin_key_path


def test_a_reload_says_what_came_of_it(weir: Weir) -> None:
    """As `weir reload` does; every process has taken it up, the console as well."""
    key = admin_key_path(weir.data_dir).read_text().strip()
    asked = urllib.request.Request(
        f"{weir.admin_url}/admin/v1/reload",
        data=b"{}",
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=40) as answer:
        found = orjson.loads(answer.read())

    assert (found["ok"], found["faults"]) == (True, [])
