r"""Where a text that is still growing may be cut, so that counting the parts counts the whole.

An encoding splits text into pieces by a regular expression without look-behind, and merges bytes
only within a piece. A position is a safe cut when it is a piece boundary whatever follows, and
when cutting there leaves the pieces before it as they were. Two ways to find one:

- `last_cut` knows a few pairs of neighbouring characters between which a cut is always safe. It is
  one match of one regular expression over the new characters, and nearly always enough.
- `settled` runs the real pattern and keeps the pieces that no later text can change. Slower; for
  text in which no such pair has come for long.

Character classes are listed, or are subsets of Unicode's in every version since 3: Python, regex
and tiktoken need not agree on the newest characters for a cut to be safe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import regex  # type: ignore[import-untyped]  # ships no types; tiktoken itself depends on it

# The split patterns are tiktoken's (MIT, (c) 2022 OpenAI, Shantanu Jain); a test compares them.
R50K_PATTERN = (
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
)
CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"""
    r"""| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K_PATTERN = "|".join(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SUFFIX}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SUFFIX}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)

_LETTER = "A-Za-z\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
# Never the apostrophe: what follows it may become 's or 'll.
_ASCII_SIGN = r"!-&(-/:-@\[-`{-~"
_SIGN = _ASCII_SIGN + "、。，！？：；（）《》【】「」『』“”‘’…—–·"  # noqa: RUF001 - these very signs

_VISIBLE_THEN_BLANK = r"(?<=\S)(?=[ \t])"
_VISIBLE_THEN_NEWLINE = r"(?<=\S)(?=[\r\n])"
_WORD_THEN_SIGN = rf"(?<=[^\W_])(?=[{_SIGN}])"
_WORD_OR_SIGN_THEN_DIGIT = rf"(?<=[{_LETTER}{_ASCII_SIGN}'])(?=[0-9])"
_DIGIT_THEN_LETTER = rf"(?<=[0-9])(?=[{_LETTER}])"
_NEWLINE_THEN_VISIBLE = r"(?<=\n)(?=[^\s/])"  # o200k lets "/" join newlines after a sign
_ONE_BLANK_THEN_DIGIT = r"(?<=\S[ \t])(?=[0-9])"
# With the apostrophe excluded, or the contraction in "'vE" would be cut before its E.
_LOWER_THEN_UPPER = r"(?<=[^'][a-z])(?=[A-Z])"

_ALWAYS = (
    _VISIBLE_THEN_BLANK,
    _WORD_THEN_SIGN,
    _WORD_OR_SIGN_THEN_DIGIT,
    _DIGIT_THEN_LETTER,
)
# r50k glues " 5" and gives the last of some newlines to the next piece, hence not for it.
_SINCE_CL100K = (*_ALWAYS, _NEWLINE_THEN_VISIBLE, _ONE_BLANK_THEN_DIGIT)

# How far beyond its own end the pattern may look to decide a piece: over all letters or all blanks
# that follow the first character, and then over a contraction's three characters.
_REACH = regex.compile(r"(?s:.)(?:\s++|[\p{L}\p{M}]*+)")
_CONTRACTION = 3


class Splitter:
    """The cuts of one split pattern. Stateless and shared; `for_encoding` gives the right one."""

    __slots__ = ("_find_cut", "_pieces")

    def __init__(self, pattern: str, cuts: tuple[str, ...]) -> None:
        self._pieces: Callable[[str], Iterator[re.Match[str]]] = regex.compile(pattern).finditer
        # `.*` is greedy: the match ends at the last cut there is.
        self._find_cut = re.compile(f"(?s:.*)(?:{'|'.join(cuts)})").match

    def last_cut(self, text: str, start: int) -> int:
        """Index of the last safe cut at or after `start`, or 0 when there is none.

        A cut is known by the characters on both sides of it. So what a text's end hides is found
        when the next characters come, with `start` at the old end: nothing is looked at twice.
        """
        found = self._find_cut(text, start)
        return found.end() if found else 0

    def settled(self, text: str) -> int:
        """End of the last piece of `text` that no text after it can change; 0 if there is none.

        Cutting there is exact for what follows, but the part before must be counted as part of
        `text`: alone, its trailing blanks may be split in another way.
        """
        end = 0
        for piece in self._pieces(text):
            seen = max(piece.end(), _REACH.match(text, piece.start()).end())
            if seen + _CONTRACTION > len(text):
                break
            end = piece.end()
        return end


_R50K = Splitter(R50K_PATTERN, (*_ALWAYS, _VISIBLE_THEN_NEWLINE))
_CL100K = Splitter(CL100K_PATTERN, _SINCE_CL100K)
_O200K = Splitter(O200K_PATTERN, (*_SINCE_CL100K, _LOWER_THEN_UPPER))
_BY_ENCODING = {
    "gpt2": _R50K,
    "r50k_base": _R50K,
    "p50k_base": _R50K,
    "p50k_edit": _R50K,
    "cl100k_base": _CL100K,
    "o200k_base": _O200K,
    "o200k_harmony": _O200K,
}


def for_encoding(name: str) -> Splitter:
    """The splitter of an encoding by tiktoken's name; KeyError when we know no cuts for it."""
    return _BY_ENCODING[name]
