"""Logging: JSON lines for machines, coloured lines on a terminal, one pipeline for all.

Rules it keeps:
- What the standard library logs (aiohttp, asyncio, warnings) takes the same road as our own lines.
- Everything goes to stderr; stdout belongs to what a command answers.
- The last processor before the renderer masks whatever looks like a credential. It is the last
  line of defence: nobody may log a secret and count on it. Prompts are never logged at all.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TextIO, cast

import orjson

from proxy.settings import Secret

# structlog imports rich where it finds it: 0.1 s of every start, and for tracebacks with locals,
# which we never let it draw. None in this place makes the import fail, as if it were not there.
_had_rich = "rich" in sys.modules
sys.modules.setdefault("rich", cast("Any", None))
import structlog  # noqa: E402 - see above
from structlog.types import EventDict, Processor, WrappedLogger  # noqa: E402 - see above

if not _had_rich:
    del sys.modules["rich"]

LEVEL_VARIABLE = "WEIR_LOG"
"""debug, info, warning or error; info when unset."""

MASK = "***"

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_SECRET_NAMES = re.compile(
    r"(?:^|[_-])(?:authorization|cookie|password|passwd|secret|token|api[_-]?key|private[_-]?key"
    r"|access[_-]?key|credentials?)$",
    re.IGNORECASE,
)
"""Field names whose value is masked whatever it is. `key_id` and `output_tokens` are not."""

_SECRET_TEXT = re.compile(
    r"(?P<scheme>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?P<url>[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@]+(?=@)"
    r"|\b(?:sk|rk|pk|whsec)[-_][A-Za-z0-9_-]{8,}"
    r"|\bAIza[A-Za-z0-9_-]{20,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+",
    re.IGNORECASE,
)
"""Bearer and Basic values, passwords in URLs, the key shapes of vendors, and JSON web tokens."""

_SECRET_HINTS = (
    *((hint, (hint,)) for hint in ("bearer", "basic", "://", "whsec", "aiza", "eyj")),
    ("ia", ("akia", "asia")),
    ("k-", ("sk-", "rk-", "pk-")),
    ("k_", ("sk_", "rk_", "pk_")),
    ("gh", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
)
"""One of these stands in every text that the expression above matches; each look costs 0.3 us, so
those that have two signs in common are looked for by these first."""

_PLAIN = frozenset({str, int, float, bool, type(None)})

_DEPTH_MAX = 6


def configure(*, stream: TextIO | None = None, level: str | None = None) -> None:
    """Send every log line of this process to `stream` (stderr), at `level` (from WEIR_LOG).

    May be called again: the last call wins. A forked child inherits it.
    """
    target = stream if stream is not None else sys.stderr
    named = level if level is not None else os.environ.get(LEVEL_VARIABLE, "info")
    threshold = _LEVELS.get(named.lower(), logging.INFO)
    shared = _shared_processors()
    if target.isatty():
        processors: list[Processor] = [
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ]
        factory: Any = structlog.stdlib.LoggerFactory()
    else:
        # one line per exchange: the way through the standard library costs 50 us, this one 10
        processors = [
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            _line,
        ]
        factory = _LineWriters(target)
    structlog.configure(
        processors=processors,
        logger_factory=factory,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        # A cached logger would keep the first configuration; tests and children reconfigure.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(target),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    logging.captureWarnings(capture=True)
    # One line per exchange is written by the exchange itself; aiohttp's would be the second.
    # Alembic names each of its plugins at every start.
    for noisy in ("aiohttp.access", "alembic.runtime.plugins"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if named.lower() not in _LEVELS:
        logger("telemetry").warning(
            "unknown log level, using info", variable=LEVEL_VARIABLE, choices=sorted(_LEVELS)
        )


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; `name` says which part of the program speaks."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))


class _LineWriters:
    """Makes loggers that write whole lines to a stream, and know their name."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *names: str) -> _LineWriter:
        return _LineWriter(self._stream, names[0] if names else None)


class _LineWriter(structlog.WriteLogger):
    def __init__(self, stream: TextIO, name: str | None) -> None:
        super().__init__(stream)
        self.name = name


def _line(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """The record as one line of JSON; masked value by value only where something may need it."""
    name = getattr(logger, "name", None)
    if name is not None:
        event["logger"] = name
    event["message"] = event.pop("event", None)
    if _is_plain(event):
        line = _json(event)
        lowered = line.lower()
        for sign, hints in _SECRET_HINTS:  # a generator would take twice as long
            if sign in lowered and any(hint in lowered for hint in hints):
                break
        else:
            return line
    return _json(redact(logger, method, event))


def _is_plain(values: Mapping[Any, object]) -> bool:
    """Whether these are plain values under names that are not those of secrets."""
    for name, value in values.items():
        if name.__class__ is not str or _is_secret_name(name):
            return False
        kind = value.__class__
        if kind is str or kind in _PLAIN or isinstance(value, str):
            continue
        if kind is not dict or not _is_plain(cast("dict[Any, object]", value)):
            return False
    return True


@lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask every value in a log record that looks like a credential, however deep it lies."""
    return {name: _redacted(name, value, _DEPTH_MAX) for name, value in event.items()}


def _redacted(name: str, value: object, depth: int) -> Any:
    if isinstance(value, Secret) or _SECRET_NAMES.search(name):
        return None if value is None else MASK
    if isinstance(value, str):
        return _SECRET_TEXT.sub(_masked, value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", each, depth - 1) for each in value]
    if isinstance(value, bytes | bytearray):
        return _SECRET_TEXT.sub(_masked, value.decode("utf-8", "replace"))
    return _SECRET_TEXT.sub(_masked, str(value))


def _masked(found: re.Match[str]) -> str:
    return (found["scheme"] or found["url"] or "") + MASK


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _rendering(target: TextIO) -> list[Processor]:
    """Tracebacks become text first, so that `redact` sees them as well.

    Locals are never shown: they hold prompts and keys.
    """
    if target.isatty():
        console = structlog.dev.ConsoleRenderer(
            colors=True, exception_formatter=structlog.dev.plain_traceback
        )
        return [structlog.processors.format_exc_info, redact, console]
    return [
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_json),
    ]


def _json(record: EventDict, **_options: object) -> str:
    """A line is written whatever it holds: integers past 64 bits and lone surrogates included."""
    try:
        return orjson.dumps(record, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        return json.dumps(record, default=str)
