"""The first file is sound for each way to begin."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from config_samples import loaded

from proxy.init_file import STARTS, Answers, first_file


@pytest.mark.parametrize("provider", STARTS)
def test_every_start_is_sound(tmp_path: Path, provider: str) -> None:
    """Every model has a price, for the tenant has a cap."""
    variables = {provider: "SOME_KEY"}
    text = first_file(Answers([provider], variables, ["on", "1.5"], Decimal("1e1"), 0))

    found = loaded(tmp_path, text, SOME_KEY="x")

    assert found.warnings == ()
    assert list(found.settings.tenants) == ["on", "1.5"]
