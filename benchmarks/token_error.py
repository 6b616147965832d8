"""`python -m benchmarks.token_error`: how far our counts are from those of providers.

Prints the tables of docs/token-counting.md. Prompts and images are those of the tests, with counts
that OpenAI's API returned or billed. The families without a tokenizer of ours were measured once
with the published ones of Mistral (tekken), Qwen2 and DeepSeek v3 on files of a few kilobytes; what
stands here are their tokens per token of o200k_base.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from metering.calibration import SAMPLES_MIN, Calibration
from metering.counter import IncrementalCounter
from metering.images import image_tokens
from metering.prompt import count_prompt
from metering.tokenizer import count_text, load_encoding, tokenizer_for

VECTORS = Path(__file__).parents[1] / "tests/metering/data/token_vectors.json"

MODELS = {"cl100k_base": "gpt-3.5-turbo", "o200k_base": "gpt-4o"}

USUAL = "English, code, JSON"
OTHERS = "Japanese, Chinese, Russian, Korean, Hindi, Thai"
MEASURED: dict[str, dict[str, tuple[float, ...]]] = {
    "mistral-large": {
        USUAL: (1.05, 1.09, 1.13, 1.00, 1.19),
        OTHERS: (1.06, 1.22, 1.1, 1.3, 1.2, 1.5),
    },
    "qwen2.5-72b": {
        USUAL: (1.00, 1.03, 1.07, 1.00, 1.03),
        OTHERS: (0.98, 1.01, 1.1, 1.1, 2.8, 1.3),
    },
    "deepseek-chat": {
        USUAL: (1.04, 1.07, 1.09, 1.00, 1.06),
        OTHERS: (1.00, 0.99, 1.1, 1.3, 1.8, 1.1),
    },
}
"""Least and most of each kind of text, where several files were measured."""

COUNTED = 100_000
"""Tokens of o200k_base of each text: enough that no error is one of rounding."""


def tables() -> str:
    """All of them, as Markdown."""
    vectors: dict[str, Any] = json.loads(VECTORS.read_text(encoding="utf-8"))
    exact = [
        ("Texts, whole", _texts(vectors)),
        ("Texts, in pieces", _pieces(vectors)),
        ("Prompts of messages", _prompts(vectors, with_tools=False)),
        ("Prompts with tools", _prompts(vectors, with_tools=True)),
        ("Images", _images(vectors)),
    ]
    first = ["| What | Cases | Equal | Largest error |", "|---|---|---|---|"]
    for name, errors in exact:
        equal, worst = errors.count(0), max(map(abs, errors))
        first.append(f"| {name} | {len(errors)} | {equal} | {worst} tokens |")
    second = [
        "| Model | Counted as | Text | Error | After calibration |",
        "|---|---|---|---|---|",
    ]
    for model, kinds in MEASURED.items():
        for kind, ratios in kinds.items():
            plain, calibrated = _errors(model, ratios), _errors(model, ratios, kinds[USUAL])
            name = tokenizer_for(model).name
            second.append(f"| `{model}` | `{name}` | {kind} | {plain} | {calibrated} |")
    return "\n".join([*first, "", *second])


def _texts(vectors: dict[str, Any]) -> list[int]:
    return [
        count_text(load_encoding(name), case["text"]) - count
        for case in vectors["texts"]
        for name, count in case["count"].items()
    ]


def _pieces(vectors: dict[str, Any]) -> list[int]:
    return [error for case in vectors["splits"] for error in _running(case)]


def _running(case: dict[str, Any]) -> Iterator[int]:
    counter = IncrementalCounter(load_encoding(case["encoding"]))
    recorded = case["chunks"]
    if isinstance(recorded, dict):  # long runs of one unit
        recorded = [recorded["unit"] * length for length in recorded["lengths"]]
    for chunk, count in zip(recorded, case["running"], strict=True):
        counter.feed(chunk)
        yield counter.count - count


def _prompts(vectors: dict[str, Any], *, with_tools: bool) -> list[int]:
    return [
        count_prompt(tokenizer_for(MODELS[name]), case["body"]) - count
        for case in vectors["prompts"]
        if with_tools is bool(case["body"].get("tools") or case["body"].get("functions"))
        for name, count in case["api_count"].items()
    ]


def _images(vectors: dict[str, Any]) -> list[int]:
    return [
        image_tokens(case["model"], case["width"], case["height"], case["detail"]) - case["tokens"]
        for case in vectors["images"]
    ]


def _errors(model: str, ratios: Sequence[float], seen: Iterable[float] = ()) -> str:
    """The least and the largest error of our counts, in percent of what the tokenizer says."""
    calibration = Calibration()
    counted = tokenizer_for(model).scale(COUNTED)
    for _ in range(SAMPLES_MIN):
        for ratio in seen:
            calibration.observe(model, counted=counted, reported=round(COUNTED * ratio))
    ours = calibration.scaled(model, counted)
    errors = sorted(ours / (COUNTED * ratio) - 1 for ratio in ratios)
    return f"{errors[0]:+.0%} to {errors[-1]:+.0%}"


if __name__ == "__main__":
    print(tables())
