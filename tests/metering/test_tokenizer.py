"""Encodings from package data, the names that choose them, and counting whole texts."""

import base64
import hashlib
import json
import lzma
import socket
from importlib.resources import files
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from tiktoken_ext import openai_public

from metering import tokenizer
from metering.tokenizer import (
    count_text,
    encoding_name,
    load_encoding,
    preload,
    tokenizer_for,
)

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data/token_vectors.json").read_text()
)
ENCODINGS = ("o200k_base", "cl100k_base", "p50k_base", "r50k_base")


def checksum(ids: list[int]) -> str:
    return hashlib.sha256(b"".join(i.to_bytes(4, "little") for i in ids)).hexdigest()[:12]


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_packed_ranks_are_tiktokens_own_file(name: str) -> None:
    """Unpacked and written as lines, a rank file has the hash of the one tiktoken downloads."""
    file = "p50k_base" if name == "r50k_base" else name
    stored = VECTORS["rank_files"][file]["tokens"]
    wanted = VECTORS["rank_files"][name]
    packed = lzma.decompress(files("metering").joinpath(f"data/{file}.ranks.xz").read_bytes())
    bounds = pairwise(accumulate(packed[: wanted["tokens"]], initial=stored))
    ranks = (rank for rank in range(wanted["tokens"] + 1) if (file, rank) != ("p50k_base", 50256))

    text = b"".join(
        b"%s %d\n" % (base64.b64encode(packed[start:end]), rank)
        for (start, end), rank in zip(bounds, ranks, strict=False)
    )

    assert len(text) == wanted["bytes"]
    assert hashlib.sha256(text).hexdigest() == wanted["sha256"]


@pytest.mark.parametrize("name", ENCODINGS)
def test_patterns_and_special_tokens_are_tiktokens(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoding is built from the very constants of the installed tiktoken."""
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})

    theirs = openai_public.ENCODING_CONSTRUCTORS[name]()

    recipe = tokenizer._RECIPES[name]
    assert recipe.pattern == theirs["pat_str"]
    assert recipe.special == theirs["special_tokens"]


def test_loading_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every encoding loads with all sockets broken and no cache directory."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(tiktoken, "get_encoding", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "/nonexistent")

    loaded = {name: tokenizer._load.__wrapped__(name) for name in ENCODINGS}

    for name, encoding in loaded.items():
        assert encoding.encode_ordinary("hello world") == VECTORS["hello_world"][name]


@pytest.mark.parametrize(
    ("alias", "name"),
    [("gpt2", "r50k_base"), ("p50k_edit", "p50k_base"), ("o200k_harmony", "o200k_base")],
)
def test_an_alias_is_the_same_object(alias: str, name: str) -> None:
    """An alias costs no second copy of the ranks."""
    preload([alias])

    assert load_encoding(alias) is load_encoding(name)


def test_an_unknown_encoding_is_a_key_error() -> None:
    """Encodings are named by us, never by a client: another name is a mistake."""
    with pytest.raises(KeyError):
        load_encoding("o300k_base")


@pytest.mark.parametrize("name", ENCODINGS)
def test_texts_give_tiktokens_ids(name: str) -> None:
    """All frozen texts, special tokens as text and lone surrogates too, count as recorded."""
    encoding = load_encoding(name)
    long = [{**case, "text": case["unit"] * case["times"]} for case in VECTORS["repeats"]]

    for case in VECTORS["texts"] + long:
        ids = encoding.encode_ordinary(case["text"])
        assert len(ids) == case["count"][name], case["id"]
        assert checksum(ids) == case["ids"].get(name, checksum(ids)), case["id"]
        assert count_text(encoding, case["text"]) == case["count"][name], case["id"]


def test_a_million_blanks_count_without_a_panic() -> None:
    """1.2 million blanks and a letter, which crash one call of tiktoken, count exactly."""
    text = " " * 1_200_000 + "x"

    assert count_text(load_encoding("o200k_base"), text) == 9377


def test_a_long_text_counts_as_in_one_call() -> None:
    """Slicing changes nothing, wherever it falls."""
    encoding = load_encoding("o200k_base")
    sample = next(case["text"] for case in VECTORS["texts"] if case["id"] == "code")
    text = sample * 40

    assert count_text(encoding, text) == len(encoding.encode_ordinary(text))


@pytest.mark.parametrize(("model", "expected"), VECTORS["models"].items())
def test_model_names_choose_the_encoding(model: str, expected: str) -> None:
    """Names as routers, vendors and fine-tuning write them lead to the right encoding."""
    assert encoding_name(model) == expected


@pytest.mark.parametrize(
    ("model", "name", "is_exact"),
    [
        ("gpt-4o", "o200k_base", True),
        ("gpt-5.1-codex", "o200k_base", True),
        ("azure/gpt-4-turbo", "cl100k_base", True),
        ("ft:gpt-4.1-mini-2025-04-14:org::id", "o200k_base", True),
        ("openai.gpt-oss-120b-1:0", "o200k_harmony", True),
        ("gpt-6", "o200k_base*1.00", False),
        ("gpt-j-6b", "o200k_base*1.00", False),
        ("some-new-model-9", "o200k_base*1.00", False),
        ("", "o200k_base*1.00", False),
        ("meta-llama/Llama-3.3-70B-Instruct", "o200k_base*1.00", False),
        ("Qwen/Qwen3-235B", "o200k_base*1.03", False),
        ("deepseek-r1:7b", "o200k_base*1.05", False),
        ("deepseek-r1-distill-llama-70b", "o200k_base*1.05", False),
        ("mixtral-8x7b", "o200k_base*1.08", False),
        ("google/gemini-2.5-pro", "o200k_base*1.05", False),
        ("claude-instant-1.2", "o200k_base*1.10", False),
        ("claude-3-5-sonnet-20241022", "o200k_base*1.10", False),
        ("us.anthropic.claude-opus-4-1-20250805-v1:0", "o200k_base*1.10", False),
        ("claude-opus-4-20250514", "o200k_base*1.10", False),
        ("claude-opus-4@20250514", "o200k_base*1.10", False),
        ("anthropic/claude-opus-4.6", "o200k_base*1.10", False),
        ("claude-opus-4-7", "o200k_base*1.35", False),
        ("claude-sonnet-5", "o200k_base*1.35", False),
        ("claude-latest", "o200k_base*1.35", False),
    ],
)
def test_families_have_their_factor(model: str, name: str, *, is_exact: bool) -> None:
    """Models of other makers are counted in o200k tokens times a factor, and the name says so."""
    chosen = tokenizer_for(model)

    assert (chosen.name, chosen.is_exact) == (name, is_exact)


@pytest.mark.parametrize(("tokens", "scaled"), [(0, 0), (1, 2), (10, 11), (100, 110), (101, 112)])
def test_a_factor_rounds_up(tokens: int, scaled: int) -> None:
    """A part of a token is a token: a hold must not be too small."""
    assert tokenizer_for("claude-3-haiku").scale(tokens) == scaled
