"""Who a key is."""

from __future__ import annotations

import pytest
from fixtures_console import Desk


@pytest.mark.parametrize("role", ["viewer", "billing", "admin"])
async def test_every_role_may_ask_what_it_is(desk: Desk, role: str) -> None:
    """A key is told its own id and role."""
    found = await desk.get("/admin/v1/whoami", role=role)

    assert found == {"id": role, "role": role, "by_session": False}
