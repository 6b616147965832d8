"""The seam between a text that broke off and its continuation by another model. Pure.

Models are asked to go on exactly where the text ends; some begin with its last words again, some
with all of it, and some with the blanks that stood there. What is said twice is left out.
"""

from __future__ import annotations

OVERLAP_MIN = 16
"""Characters that both sides have to share to be the same words: fewer may be chance."""

OVERLAP_MAX = 4096
"""Of the text's end: what is looked at."""


class Seam:
    """Fed the continuation piece by piece, gives what of it is new.

    What may yet turn out to be a repetition is held back; `flush` gives it once nothing more comes.
    """

    __slots__ = ("_blanks", "_end", "_held", "_is_open")

    def __init__(self, text: str) -> None:
        self._end = text[-OVERLAP_MAX:]
        self._blanks = self._end[len(self._end.rstrip()) :]
        self._held = ""
        self._is_open = bool(text)

    def feed(self, piece: str) -> str:
        """What may go on of it now."""
        if not self._is_open:
            return piece
        self._held += piece
        return "" if self._held in self._end else self.flush()

    def flush(self) -> str:
        """All that is held back, without what is said twice."""
        held, self._held, self._is_open = self._held, "", self._is_open and not self._held
        if not held:
            return ""
        if size := _overlap(self._end, held):
            return held[size:]
        rest = held[_overlap(self._end.rstrip(), held) :]
        return rest[_shared(rest, self._blanks) :]


def _shared(one: str, other: str) -> int:
    """With how many characters both begin."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _overlap(end: str, held: str) -> int:
    """With how many characters this begins as that ends."""
    sizes = range(min(len(held), len(end)), OVERLAP_MIN - 1, -1)
    return next((size for size in sizes if end.endswith(held[:size])), 0)
