"""What the ledger can store; what it says of the rest stands in `test_entries`."""

from __future__ import annotations

import pytest
from fixtures_ledger import make_event

from metering.settlement.event_checks import QUANTITY_MAX, check_event


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_amounts_are_usage_and_one_more_is_not(sign: int) -> None:
    check_event(make_event(cost_nano=sign * QUANTITY_MAX))

    with pytest.raises(ValueError, match="cost_nano"):
        check_event(make_event(cost_nano=sign * (QUANTITY_MAX + 1)))
