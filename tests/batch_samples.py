"""Batch objects as OpenAI shows them."""

from __future__ import annotations

from typing import Any

USAGE: dict[str, Any] = {
    "input_tokens": 1_000_001,
    "input_tokens_details": {"cached_tokens": 1},
    "output_tokens": 500_000,
    "output_tokens_details": {"reasoning_tokens": 200_000},
    "total_tokens": 1_500_001,
}
BEGUN: dict[str, Any] = {"id": "batch_1", "object": "batch", "status": "validating"}
OVER: dict[str, Any] = {
    **BEGUN,
    "status": "completed",
    "model": "up-m-2026-08-07",
    "completed_at": 1,
    "request_counts": {"total": 9, "completed": 8, "failed": 1},
    "usage": USAGE,
}
