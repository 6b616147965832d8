"""Form data as it came: where each field stands, so that one can be replaced and no other byte is.

Two readers that take a form apart differently would let somebody name one model to us and another
to the upstream. Rules: what every reader takes alike is read, anything else is refused: the body
begins with its first boundary and ends with the last, lines end in CRLF, a part has one
`Content-Disposition` with a plain quoted name, no part is encoded.

Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.errors import InvalidRequest

PARTS_MAX = 1_000
HEAD_BYTES_MAX = 8 * 1024
FIELD_BYTES_MAX = 1024 * 1024
"""What is read of a field that is no file."""

_BOUNDARY = re.compile(
    r"multipart/form-data\s*;\s*boundary=(?:\"([A-Za-z0-9'()+_,./:=? -]{1,70})\""
    r"|([A-Za-z0-9'()+_./:=?-]{1,70}))\s*(?:;\s*charset=\"?utf-8\"?\s*)?",
    re.IGNORECASE,
)
_DISPOSITION = re.compile(
    rb'form-data\s*;\s*name="([^"\\\r\n]{1,200})"(\s*;\s*filename(?:="[^"\r\n]*"|\*=[^;\r\n"]+))*\s*',
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One field: its name as it was written, whether it is a file, and where its value stands."""

    name: str
    is_file: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Form:
    """A body and its parts, in order."""

    raw: bytes
    parts: tuple[Part, ...]

    def values(self, name: str) -> list[str]:
        """What stands in the fields of that name, or of that name with `[]`."""
        return [self._text(part) for part in self.parts if part.name in (name, f"{name}[]")]

    def value(self, name: str) -> str | None:
        """The field of that name; InvalidRequest when there are two."""
        found = self.values(name)
        if len(found) > 1:
            raise InvalidRequest(f"The field `{name}` comes {len(found)} times.", param=name)
        return found[0] if found else None

    def names(self) -> set[str]:
        """The names of all fields."""
        return {part.name.removesuffix("[]") for part in self.parts}

    def replaced(self, name: str, value: str) -> bytes:
        """The body with another value in the field of that name; nothing else changes."""
        for part in self.parts:
            if part.name == name:
                return b"%b%b%b" % (self.raw[: part.start], value.encode(), self.raw[part.end :])
        return self.raw

    def _text(self, part: Part) -> str:
        if part.is_file:
            raise InvalidRequest(f"The field `{part.name}` must not be a file.", param=part.name)
        if part.end - part.start > FIELD_BYTES_MAX:
            raise InvalidRequest(f"The field `{part.name}` is too long.", param=part.name)
        try:
            return self.raw[part.start : part.end].decode()
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"The field `{part.name}` must be text in UTF-8.", param=part.name
            ) from None


def read_form(raw: bytes, content_type: str) -> Form:
    """The parts of a form; InvalidRequest for what not everybody would read alike."""
    boundary = _BOUNDARY.fullmatch(content_type.strip())
    if boundary is None:
        raise _odd("its Content-Type needs a plain `boundary`, and no other parameter")
    delimiter = b"--" + (boundary[1] or boundary[2]).encode()
    if not raw.startswith(delimiter + b"\r\n"):
        raise _odd("it does not begin with its boundary")
    parts: list[Part] = []
    at = len(delimiter) + 2
    while True:
        end = raw.find(b"\r\n" + delimiter, at - 2)
        if end < 0:
            raise _odd("its last boundary is missing")
        parts.append(_part(raw, at, end))
        if len(parts) > PARTS_MAX:
            raise _odd(f"it has more than {PARTS_MAX} parts")
        at = end + 2 + len(delimiter)
        following = raw[at : at + 2]
        if following == b"--":
            if raw[at + 2 :] not in (b"", b"\r\n"):
                raise _odd("something follows its last boundary")
            return Form(raw, tuple(parts))
        if following != b"\r\n":
            raise _odd("a part has the boundary in it")
        at += 2


def _part(raw: bytes, start: int, end: int) -> Part:
    head_end = raw.find(b"\r\n\r\n", start, min(end, start + HEAD_BYTES_MAX))
    if head_end < 0:
        raise _odd("a part has no end of its headers")
    disposition: bytes | None = None
    for line in raw[start:head_end].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not re.fullmatch(rb"[A-Za-z0-9-]+", name) or re.search(rb"[\r\n\0]", value):
            raise _odd("a part has a broken header")
        match name.lower():
            case b"content-disposition" if disposition is None:
                disposition = value.strip()
            case b"content-disposition" | b"content-transfer-encoding":
                raise _odd("a part is encoded, or named twice")
            case _:
                pass
    found = _DISPOSITION.fullmatch(disposition or b"")
    if found is None:
        raise _odd('a part needs `Content-Disposition: form-data; name="..."`, with a plain name')
    try:
        name_text = found[1].decode()
    except UnicodeDecodeError:
        raise _odd("the name of a part is not UTF-8") from None
    return Part(name_text, found[2] is not None, head_end + 4, end)


def _odd(why: str) -> InvalidRequest:
    return InvalidRequest(f"The form cannot be read the same way by everybody: {why}.")
