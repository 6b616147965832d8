"""How far our count of prompts is off for models whose tokenizer we do not have, learned from what
their providers report. Pure.

For each upstream model there are sums over observed prompts: what we counted, what was reported,
and how far single prompts were from the mean. A count is scaled by the mean and its usual
deviation, since it is for a hold and should cover most prompts. Sums of several processes add up,
and so do those of several days; nothing here is a float, and no single prompt weighs much.

Models with a tokenizer of ours are not calibrated: where they differ, the framing does, which no
factor describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PPM = 1_000_000

SAMPLES_MIN = 20
"""Fewer observations say nothing; the factor of the tokenizer's table stands till then."""

TOKENS_MIN = 50
"""Of a prompt: in shorter ones the frame outweighs the text."""

WEIGHT_MAX = 20_000
"""Tokens of one prompt that count: one document of a million must not decide for all."""

RATIO_MIN_PPM = PPM // 4
RATIO_MAX_PPM = 4 * PPM
"""An observation beyond these is no tokenizer's doing (an upstream that lies, or adds a prompt of
its own) and is left out."""

FACTOR_MIN_PPM = 3 * PPM // 4
FACTOR_MAX_PPM = 2 * PPM
"""What a hold is scaled by at least and at most, whatever was observed."""

MODELS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Sums:
    """Observations of one model: their number, the tokens that we counted and those reported (both
    weighted), and the sum of what single reports were away from the mean at the time."""

    samples: int = 0
    counted: int = 0
    reported: int = 0
    spread: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.samples + other.samples,
            self.counted + other.counted,
            self.reported + other.reported,
            self.spread + other.spread,
        )

    @property
    def is_sound(self) -> bool:
        """Whether these can be sums of observations: what is stored may have been tampered with."""
        return (
            all(value >= 0 for value in (self.samples, self.reported, self.spread))
            and self.counted >= TOKENS_MIN * self.samples
            and self.counted * RATIO_MIN_PPM <= self.reported * PPM
            and self.reported * PPM <= self.counted * RATIO_MAX_PPM
        )

    @property
    def mean_ppm(self) -> int:
        """Reported tokens per counted one; one for nothing."""
        return self.reported * PPM // self.counted if self.counted else PPM

    @property
    def factor_ppm(self) -> int:
        """What a count is scaled by: the mean and the usual deviation, within the bounds; one while
        too little was seen."""
        if self.samples < SAMPLES_MIN or not self.counted:
            return PPM
        factor = (self.reported + self.spread) * PPM // self.counted
        return min(FACTOR_MAX_PPM, max(FACTOR_MIN_PPM, factor))


class Calibration:
    """What one process knows: sums that all have published, and its own that are not yet."""

    def __init__(self) -> None:
        self._shared: dict[str, Sums] = {}
        self._own: dict[str, Sums] = {}
        self._factors: dict[str, int] = {}

    def observe(self, model: str, *, counted: int, reported: int) -> None:
        """Note a prompt of text that its provider has reported: `counted` as we count without this
        calibration, `reported` all of its input, what was read from a cache included."""
        if counted < TOKENS_MIN or not _is_ratio(counted, reported):
            return
        known = self._sums(model)
        if not known.samples and len(self._shared.keys() | self._own.keys()) >= MODELS_MAX:
            return
        weight = min(counted, WEIGHT_MAX)
        weighed = reported * weight // counted
        # Before anything is known the first reports are their own mean; the deviation that this
        # leaves out is theirs alone.
        expected = weight * known.mean_ppm // PPM if known.samples else weighed
        seen = Sums(1, weight, weighed, abs(weighed - expected))
        self._own[model] = self._own.get(model, Sums()) + seen
        self._factors.pop(model, None)

    def scaled(self, model: str, tokens: int) -> int:
        """A count of ours as this model's provider is likely to report it, rounded up."""
        factor = self._factors.get(model)
        if factor is None:
            factor = self._factors[model] = self._sums(model).factor_ppm
        return tokens if factor == PPM else -(-tokens * factor // PPM)

    def samples(self, model: str) -> int:
        """How many prompts of this model have been observed."""
        return self._sums(model).samples

    def take(self) -> dict[str, Sums]:
        """What has been observed since the last call, to be added to what is shared. It counts here
        all the same, as if it were shared already."""
        taken, self._own = self._own, {}
        for model, sums in taken.items():
            self._shared[model] = self._shared.get(model, Sums()) + sums
        return taken

    def give_back(self, taken: Mapping[str, Sums]) -> None:
        """What was taken could not be told to anybody: it is our own again."""
        for model, sums in taken.items():
            self._own[model] = self._own.get(model, Sums()) + sums
            left = self._shared.get(model, Sums())
            self._shared[model] = Sums(
                left.samples - sums.samples,
                left.counted - sums.counted,
                left.reported - sums.reported,
                left.spread - sums.spread,
            )

    def learn(self, shared: Mapping[str, Sums]) -> None:
        """What all processes have observed by now, this one's published part among it; sums that
        cannot be are left out."""
        sound = [(model, sums) for model, sums in shared.items() if sums.is_sound]
        self._shared = dict(sound[:MODELS_MAX])
        self._factors.clear()

    def _sums(self, model: str) -> Sums:
        return self._shared.get(model, Sums()) + self._own.get(model, Sums())


def _is_ratio(counted: int, reported: int) -> bool:
    return RATIO_MIN_PPM <= reported * PPM // counted <= RATIO_MAX_PPM
