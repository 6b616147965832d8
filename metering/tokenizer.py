"""Which tokenizer a model is counted with, and the encodings themselves, from package data.

Nothing here touches the network: `tiktoken.get_encoding` would download, without a timeout, and
is never called. Loading an encoding takes up to half a second and 80 MB: `preload` at start.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from itertools import accumulate, pairwise

import tiktoken

from metering.counter import SLICE, IncrementalCounter
from metering.split import CL100K_PATTERN, O200K_PATTERN, R50K_PATTERN

PPM = 1_000_000  # one, in parts per million

_END_OF_TEXT = "<|endoftext|>"
_END_OF_PROMPT = "<|endofprompt|>"
_FILL_IN = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
_ALIASES = {  # the same ranks and pattern; the special tokens that differ are never encoded
    "gpt2": "r50k_base",
    "p50k_edit": "p50k_base",
    "o200k_harmony": "o200k_base",
}


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What makes an encoding out of a rank file: see data/README.md for its form."""

    file: str
    file_tokens: int
    tokens: int  # how many of them belong to the encoding
    pattern: str
    special: dict[str, int]


_RECIPES = {
    "o200k_base": _Recipe(
        file="o200k_base",
        file_tokens=199_998,
        tokens=199_998,
        pattern=O200K_PATTERN,
        special={_END_OF_TEXT: 199_999, _END_OF_PROMPT: 200_018},
    ),
    "cl100k_base": _Recipe(
        file="cl100k_base",
        file_tokens=100_256,
        tokens=100_256,
        pattern=CL100K_PATTERN,
        special={
            _END_OF_TEXT: 100_257,
            **{name: rank for rank, name in enumerate(_FILL_IN, 100_258)},
            _END_OF_PROMPT: 100_276,
        },
    ),
    "p50k_base": _Recipe(
        file="p50k_base",
        file_tokens=50_280,
        tokens=50_280,
        pattern=R50K_PATTERN,
        special={_END_OF_TEXT: 50_256},
    ),
    "r50k_base": _Recipe(
        file="p50k_base",
        file_tokens=50_280,
        tokens=50_256,
        pattern=R50K_PATTERN,
        special={_END_OF_TEXT: 50_256},
    ),
}

# tiktoken knows these by name; what merely looks like them is an estimate.
_EXACT = re.compile(
    r"gpt-4|gpt-3\.5|gpt-35|gpt-5|gpt-oss|chatgpt-4o|o[13](?:-|$)|o4-mini"
    r"|davinci-002|babbage-002|text-embedding-(?:ada|3)|text-davinci|code-(?:davinci|cushman)"
)
_CL100K = re.compile(
    r"gpt-4(?![o.])|gpt-3\.5|gpt-35|davinci-002|babbage-002|text-embedding-(?:ada|3)"
)
_P50K = re.compile(r"text-davinci|code-(?:davinci|cushman)")

# Tokens of a family's own tokenizer per token of o200k_base, on English and code. Measured with the
# published tokenizers of Qwen, DeepSeek and Mistral; taken from vendors' guides for the others.
_FAMILY_PPM = (
    (re.compile(r"deepseek"), 1_050_000),
    (re.compile(r"qwen|qwq"), 1_030_000),
    (re.compile(r"mi[sx]tral|codestral|devstral|magistral|ministral|pixtral|voxtral"), 1_080_000),
    (re.compile(r"llama"), 1_000_000),
    (re.compile(r"gemini|gemma"), 1_050_000),
)
_CLAUDE_PPM = 1_100_000
_CLAUDE_SINCE_4_7_PPM = 1_350_000
# "claude-3-5-sonnet", "claude-opus-4.7", "claude-opus-4-20250514": major, then minor, never a date.
_CLAUDE_VERSION = re.compile(r"claude\D*(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """How the text of one model is counted.

    `name` is what events record: the model's encoding when the count is exact ("o200k_base"), else
    the encoding counted with and the factor ("o200k_base*1.10", and "o200k_base*1.00" for a guess
    at a model we know nothing about). `factor_ppm` is that factor in parts per million. Exact means
    visible text: hidden reasoning cannot be counted by anybody.
    """

    name: str
    encoding: tiktoken.Encoding
    factor_ppm: int
    is_exact: bool

    def scale(self, tokens: int) -> int:
        """Tokens of the model for `tokens` of the encoding, rounded up."""
        return -(-tokens * self.factor_ppm // PPM)


def encoding_name(model: str) -> str:
    """The encoding that counts `model`, by tiktoken's name; o200k_base for what is unknown.

    Takes names as routers and vendors write them: "openai/gpt-4o", "ft:gpt-4.1:org::id",
    "gpt-oss:20b". tiktoken's own table answers some of these wrongly and raises on others.
    """
    bare = _bare(model)
    if bare.startswith("gpt-oss"):
        return "o200k_harmony"
    if _CL100K.match(bare):
        return "cl100k_base"
    if _P50K.match(bare):
        return "p50k_base"
    return "o200k_base"


@lru_cache(maxsize=1024)  # names come from clients: bounded
def tokenizer_for(model: str) -> Tokenizer:
    """The tokenizer of a model; loads its encoding if `preload` has not."""
    bare = _bare(model)
    name = encoding_name(model)
    encoding = load_encoding(name)
    if _EXACT.match(bare):
        return Tokenizer(name, encoding, factor_ppm=PPM, is_exact=True)
    factor_ppm = _factor_ppm(bare)
    percent = factor_ppm // 10_000
    label = f"{name}*{percent // 100}.{percent % 100:02}"
    return Tokenizer(label, encoding, factor_ppm=factor_ppm, is_exact=False)


def is_claude_since_4_7(model: str) -> bool:
    """Whether a Claude has the tokenizer and the image sizes of 4.7; yes if it has no version."""
    version = _CLAUDE_VERSION.search(model.lower())
    return not version or (int(version[1]), int(version[2] or 0)) >= (4, 7)


def load_encoding(name: str) -> tiktoken.Encoding:
    """The encoding of that name, loaded once per process; KeyError for a name that is not ours.

    An alias gives the very object it stands for, so `.name` may differ from what was asked.
    """
    return _load(_ALIASES.get(name, name))


def preload(names: Iterable[str]) -> None:
    """Load encodings now: in a thread, and before forking, so that workers share the pages."""
    for name in names:
        load_encoding(name)


def count_text(encoding: tiktoken.Encoding, text: str) -> int:
    """Tokens of a text of any length and content; never one unbounded call into tiktoken.

    999,999 blanks in a row make tiktoken raise a PanicException, which is no Exception. Blocks
    50 to 400 ms per megabyte: give a long text to a thread (tiktoken releases the GIL).
    """
    if len(text) <= SLICE:
        return len(encoding.encode_ordinary(text))
    counter = IncrementalCounter(encoding)
    counter.feed(text)
    return counter.count


@cache
def _load(name: str) -> tiktoken.Encoding:
    recipe = _RECIPES[name]
    packed = lzma.decompress(
        files("metering").joinpath("data", f"{recipe.file}.ranks.xz").read_bytes()
    )
    sizes = packed[: recipe.tokens]
    bounds = accumulate(sizes, initial=recipe.file_tokens)
    tokens = (packed[start:end] for start, end in pairwise(bounds))
    taken = recipe.special.values()  # p50k skips the rank of its end-of-text token
    ranks = (rank for rank in range(recipe.tokens + len(taken)) if rank not in taken)
    return tiktoken.Encoding(
        name,
        pat_str=recipe.pattern,
        mergeable_ranks=dict(zip(tokens, ranks, strict=False)),
        special_tokens=recipe.special,
    )


def _bare(model: str) -> str:
    """`model` without provider path, fine-tuning mark, vendor dot and tag."""
    last = model.lower().rpartition("/")[2]
    return last.removeprefix("ft:").removeprefix("openai.").partition(":")[0]


def _factor_ppm(bare: str) -> int:
    if "claude" in bare:
        return _CLAUDE_SINCE_4_7_PPM if is_claude_since_4_7(bare) else _CLAUDE_PPM
    return next((ppm for family, ppm in _FAMILY_PPM if family.search(bare)), PPM)
