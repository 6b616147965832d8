"""The paths of OpenAI's API that are relayed as they are: which, what they spend, what they touch.

Rules: a path is matched as it came on the wire, before anybody decodes it; what has an escape, an
empty segment, a dot segment or a sign that ids do not have is no path of ours. The upstream's path
is put together from the row of the table and ids that were checked, never from the client's text.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

OWN, PART = "{own}", "{part}"
"""In a template: the id of an object that belongs to a tenant, and of a part of one, which its
provider looks up within it."""

ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
QUERY = re.compile(r"[A-Za-z0-9._~%&=+\[\]:,-]{0,2000}")
"""What may stand in a query; it goes on as it came."""


class Spend(StrEnum):
    """When what a request spends is known."""

    NOTHING = "nothing"
    """It makes, reads or deletes an object."""
    ANSWER = "answer"
    """Its answer says, or its price is flat."""
    LATER = "later"
    """It begins something that spends after its answer, or beside us."""


class Lives(StrEnum):
    """How long the objects of a row are there."""

    KEPT = "kept"
    PASSING = "passing"
    """Until their provider forgets them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One path. `family` is the name that the configuration has for it.

    `learns` are the fields of its answer that name objects of the tenant; `makes` is set where the
    answer's `id` is a new one. `lists` is set where the answer lists objects of the whole account.
    `routes` is set where a model decides which provider is asked: nothing stays there.
    `unit` is what its flat price is for, where that is not the call, and `count` the field of the
    request that says how many, `usual` how many that is without it.
    """

    family: str
    method: str
    template: str
    spend: Spend = Spend.NOTHING
    makes: bool = False
    learns: tuple[str, ...] = ()
    lists: bool = False
    lives: Lives = Lives.KEPT
    routes: bool = False
    is_content: bool = False
    unit: str | None = None
    count: str = ""
    usual: int = 1

    @property
    def name(self) -> str:
        """What events say was asked for where no model was."""
        return f"{self.method} {self.template}"

    @property
    def removes(self) -> bool:
        """Whether the object is gone once this was served."""
        return self.method == "DELETE" and self.template.endswith(f"/{OWN}")


@dataclass(frozen=True, slots=True)
class Target:
    """A row, the path for the upstream, and the ids in it that must be the tenant's."""

    row: Row
    path: str
    owned: tuple[str, ...]


def _plain(
    family: str, root: str, *, reads: str = "", acts: str = "", **fields: object
) -> Iterator[Row]:
    """A collection: made, listed, read, deleted; `reads` and `acts` are paths below an object."""
    lives = fields.pop("lives", Lives.KEPT)
    spend = fields.pop("spend", Spend.NOTHING)
    learns = fields.pop("learns", ())
    assert isinstance(lives, Lives)
    assert isinstance(spend, Spend)
    assert isinstance(learns, tuple)
    for letter in str(fields.pop("does", "clrd")):
        match letter:
            case "c":
                yield Row(family, "POST", root, spend, makes=True, learns=learns, lives=lives)
            case "l":
                yield Row(family, "GET", root, learns=learns, lists=True, lives=lives)
            case "r":
                yield Row(family, "GET", f"{root}/{OWN}", learns=learns, lives=lives)
            case "u":
                yield Row(family, "POST", f"{root}/{OWN}", learns=learns, lives=lives)
            case "d":
                yield Row(family, "DELETE", f"{root}/{OWN}", lives=lives)
    for each in reads.split():
        yield Row(family, "GET", f"{root}/{OWN}/{each}", lives=lives)
    for each in acts.split():
        yield Row(family, "POST", f"{root}/{OWN}/{each}", learns=learns, lives=lives)
    assert not fields


def _images(name: str) -> Row:
    return Row(
        "images",
        "POST",
        f"images/{name}",
        Spend.ANSWER,
        routes=True,
        unit="image",
        count="n",
    )


def _answers(family: str, path: str) -> Row:
    return Row(family, "POST", path, Spend.ANSWER, routes=True)


def _later(family: str, path: str, *, makes: bool = False, learns: tuple[str, ...] = ()) -> Row:
    return Row(family, "POST", path, Spend.LATER, makes=makes, learns=learns)


_BATCH = ("output_file_id", "error_file_id")

ROWS: tuple[Row, ...] = (
    *map(_images, ("generations", "edits", "variations")),
    _answers("audio", "audio/speech"),
    _answers("audio", "audio/transcriptions"),
    _answers("audio", "audio/translations"),
    _answers("moderations", "moderations"),
    *_plain("files", "files"),
    Row("files", "GET", f"files/{OWN}/content", is_content=True),
    *_plain("uploads", "uploads", does="c", learns=("file.id",), acts="parts complete cancel"),
    *_plain("batches", "batches", does="clr", spend=Spend.LATER, learns=_BATCH, acts="cancel"),
    *_plain(
        "fine_tuning",
        "fine_tuning/jobs",
        does="clr",
        spend=Spend.LATER,
        learns=("result_files",),
        reads="events checkpoints",
        acts="cancel pause",
    ),
    _later("fine_tuning", f"fine_tuning/jobs/{OWN}/resume"),
    *_plain("vector_stores", "vector_stores", does="clrud", spend=Spend.LATER, reads="files"),
    _later("vector_stores", f"vector_stores/{OWN}/files"),
    _later("vector_stores", f"vector_stores/{OWN}/search"),
    Row("vector_stores", "GET", f"vector_stores/{OWN}/files/{OWN}"),
    Row("vector_stores", "POST", f"vector_stores/{OWN}/files/{OWN}"),
    Row("vector_stores", "DELETE", f"vector_stores/{OWN}/files/{PART}"),
    Row("vector_stores", "GET", f"vector_stores/{OWN}/files/{OWN}/content"),
    _later("vector_stores", f"vector_stores/{OWN}/file_batches"),
    Row("vector_stores", "GET", f"vector_stores/{OWN}/file_batches/{PART}"),
    Row("vector_stores", "GET", f"vector_stores/{OWN}/file_batches/{PART}/files"),
    Row("vector_stores", "POST", f"vector_stores/{OWN}/file_batches/{PART}/cancel"),
    *_plain("assistants", "assistants", does="clrud"),
    *_plain("threads", "threads", does="crud", reads="messages runs", acts="messages"),
    Row("threads", "GET", f"threads/{OWN}/messages/{PART}"),
    Row("threads", "POST", f"threads/{OWN}/messages/{PART}"),
    Row("threads", "DELETE", f"threads/{OWN}/messages/{PART}"),
    Row("threads", "GET", f"threads/{OWN}/runs/{PART}"),
    Row("threads", "POST", f"threads/{OWN}/runs/{PART}"),
    Row("threads", "POST", f"threads/{OWN}/runs/{PART}/cancel"),
    Row("threads", "GET", f"threads/{OWN}/runs/{PART}/steps"),
    Row("threads", "GET", f"threads/{OWN}/runs/{PART}/steps/{PART}"),
    _later("runs", "threads/runs", learns=("thread_id",)),
    _later("runs", f"threads/{OWN}/runs"),
    _later("runs", f"threads/{OWN}/runs/{PART}/submit_tool_outputs"),
    *_plain("containers", "containers", spend=Spend.ANSWER, reads="files"),
    Row("containers", "POST", f"containers/{OWN}/files"),
    Row("containers", "GET", f"containers/{OWN}/files/{PART}"),
    Row("containers", "DELETE", f"containers/{OWN}/files/{PART}"),
    Row("containers", "GET", f"containers/{OWN}/files/{PART}/content", is_content=True),
    *_plain("evals", "evals", does="clrud", reads="runs"),
    _later("evals", f"evals/{OWN}/runs"),
    Row("evals", "GET", f"evals/{OWN}/runs/{PART}"),
    Row("evals", "POST", f"evals/{OWN}/runs/{PART}"),
    Row("evals", "DELETE", f"evals/{OWN}/runs/{PART}"),
    Row("evals", "GET", f"evals/{OWN}/runs/{PART}/output_items"),
    Row("evals", "GET", f"evals/{OWN}/runs/{PART}/output_items/{PART}"),
    *_plain(
        "responses",
        "responses",
        does="rd",
        lives=Lives.PASSING,
        reads="input_items",
        acts="cancel",
    ),
    *_plain("conversations", "conversations", does="crud", reads="items", acts="items"),
    Row("conversations", "GET", f"conversations/{OWN}/items/{PART}"),
    Row("conversations", "DELETE", f"conversations/{OWN}/items/{PART}"),
    *_plain(
        "completions",
        "chat/completions",
        does="lrud",
        lives=Lives.PASSING,
        reads="messages",
    ),
    Row(
        "videos",
        "POST",
        "videos",
        Spend.ANSWER,
        makes=True,
        unit="second",
        count="seconds",
        usual=4,
    ),
    *_plain("videos", "videos", does="lrd"),
    Row("videos", "GET", f"videos/{OWN}/content", is_content=True),
    Row(
        "videos",
        "POST",
        f"videos/{OWN}/remix",
        Spend.ANSWER,
        makes=True,
        unit="second",
        count="seconds",
        usual=12,
    ),
    _later("realtime_secrets", "realtime/client_secrets"),
    _later("realtime_secrets", "realtime/sessions"),
    _later("realtime_secrets", "realtime/transcription_sessions"),
)

REALTIME = Row("realtime", "GET", "realtime", Spend.LATER)
"""The WebSocket; `proxy.realtime` relays it."""

SECRETS = "realtime_secrets"
"""The family whose answers are keys to the provider itself, past us."""

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys([*(row.family for row in ROWS), "realtime"]))
"""Every family, in the order of the table."""

_BY_SHAPE: dict[tuple[str, ...], dict[str, Row]] = {}
for _row in ROWS:
    _BY_SHAPE.setdefault(tuple(_row.template.split("/")), {})[_row.method] = _row


def find(method: str, raw_path: str) -> Target | frozenset[str] | None:
    """The row for a path below `/v1/`, as it came; the methods there where this is none of them;
    None where there is no such path."""
    segments = raw_path.split("/")
    if len(segments) > 8 or not all(ID.fullmatch(segment) for segment in segments):
        return None
    allowed: set[str] = set()
    for shape, rows in _shapes(segments):
        if method in rows:
            pairs = list(zip(shape, segments, strict=True))
            owned = tuple(said for wanted, said in pairs if wanted == OWN)
            return Target(rows[method], "/".join(segments), owned)
        allowed |= rows.keys()
    return frozenset(allowed) if allowed else None


def _shapes(segments: list[str]) -> Iterator[tuple[tuple[str, ...], dict[str, Row]]]:
    """The templates that these segments fit; one with fewer ids goes first."""
    fitting = [
        (shape, rows)
        for shape, rows in _BY_SHAPE.items()
        if len(shape) == len(segments)
        and all(
            wanted == said or wanted in (OWN, PART)
            for wanted, said in zip(shape, segments, strict=True)
        )
    ]
    fitting.sort(key=lambda found: sum(each in (OWN, PART) for each in found[0]))
    yield from fitting
