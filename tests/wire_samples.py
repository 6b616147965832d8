"""What tests of wire formats share: golden files, readers of streams, and JSON of any shape."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.chat import ChatRequest
from proxy.errors import InvalidRequest
from proxy.passage import Passage, passage
from proxy.stream_reader import StreamReader

GOLDEN = Path(__file__).parent / "proxy/wire/golden"


def golden(form: str, name: str) -> bytes:
    """A recorded body or stream."""
    return (GOLDEN / form / name).read_bytes()


def golden_json(form: str, name: str) -> Any:
    """The same, read."""
    return orjson.loads(golden(form, name))


def way(client: str, upstream: str) -> Passage:
    """From this client format to this upstream's."""
    found = passage(client, (upstream,))
    assert found is not None
    return found


def meter(prompt_tokens: int = 7) -> Meter:
    """One for gpt-4o."""
    return Meter(tokenizer_for("gpt-4o"), prompt_tokens)


def read_cut(
    between: Passage, request: ChatRequest, stream: bytes, *cuts: int
) -> tuple[bytes, bytes, StreamReader, Meter]:
    """What is relayed of a stream that comes in these pieces, its end, its reader and meter."""
    used = meter()
    reader = between.reader(request, used, created_s=1)
    edges = [0, *cuts, len(stream)]
    relayed = b"".join(reader.feed(stream[start:end]) for start, end in pairwise(edges))
    relayed += reader.flush()
    return relayed, reader.tail, reader, used


def read_or_refused(parse: Callable[[bytes], ChatRequest], body: Any) -> ChatRequest | str | None:
    """The request behind a body, or the field that it was refused for."""
    try:
        return parse(orjson.dumps(body))
    except InvalidRequest as refused:
        return refused.param


def any_json(*names: str) -> st.SearchStrategy[Any]:
    """Values that JSON can have, with fields of these names more often than others."""
    keys = st.sampled_from(names) if names else st.text(max_size=3)
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(keys | st.text(max_size=3), inner, max_size=5)
        ),
        max_leaves=15,
    )
