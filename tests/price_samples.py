"""Random conditions of a price."""

from __future__ import annotations

from hypothesis import strategies as st

from metering.money import PPM
from metering.price_variants import OTHERWISE, ContextTier, Overlay, Variants
from metering.usage import INPUT_CLASSES, OUTPUT_CLASSES

FACTORS = st.integers(1, 5 * PPM)
OVERLAYS = st.builds(Overlay, st.none(), FACTORS, FACTORS)
LISTS = st.builds(
    Overlay, st.fixed_dictionaries(dict.fromkeys(INPUT_CLASSES + OUTPUT_CLASSES, FACTORS))
)
VARIANTS = st.builds(
    Variants,
    st.lists(st.integers(1, 1000), max_size=3, unique=True).flatmap(
        lambda borders: st.tuples(
            *(st.builds(ContextTier, st.just(each), OVERLAYS) for each in sorted(borders))
        )
    ),
    st.dictionaries(st.sampled_from(["flex", "priority", OTHERWISE]), OVERLAYS | LISTS),
    st.dictionaries(st.sampled_from(["eu", "us"]), OVERLAYS),
)
