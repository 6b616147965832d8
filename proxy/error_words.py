"""What is said of a failure, before a wire format gives it its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson


class ErrorWords(NamedTuple):
    """One failure in the words of OpenAI's errors; other formats have their own for them.

    `status` is the HTTP status it has, or would have had where an answer has begun.
    """

    status: int
    message: str
    type: str = "api_error"
    code: str | None = None
    param: str | None = None
    metadata: Mapping[str, Any] | None = None

    def openai_body(self) -> bytes:
        """The JSON body in OpenAI's shape (its API description, `components.schemas.Error`)."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        if self.metadata:
            error["metadata"] = dict(self.metadata)
        return orjson.dumps({"error": error})
