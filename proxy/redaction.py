"""Takes a provider's credential out of what its upstream says of a failure, and out of labels.

Upstreams quote what they were sent: an error page shows the headers of its request, a gateway names
the key it did not know. Rules: what is looked for is the credential as it was sent, as JSON, URLs
and HTML spell it, and within Basic authentication; what is found becomes `***`; nothing else
changes. Pure. The text of an answer that served is never searched: it is relayed as it came.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator

MARK = "***"

CHARACTERS_MIN = 8
"""Shorter ones are words for servers that want no key (`none`, `EMPTY`), not secrets, and they
stand in honest texts, too."""


class Redaction:
    """Hides some credentials wherever they stand; without any it changes nothing."""

    __slots__ = ("_in_data", "_in_text")

    def __init__(self, credentials: Iterable[str] = ()) -> None:
        secrets = sorted({each for each in credentials if len(each) >= CHARACTERS_MIN})
        secrets.sort(key=len, reverse=True)  # one may begin with another
        spelled = "|".join(form for each in secrets for form in _forms(each))
        as_bytes = "|".join(
            form for each in secrets for form in _forms(each.encode().decode("latin-1"))
        )
        self._in_text = re.compile(spelled) if spelled else None
        self._in_data = re.compile(as_bytes.encode("latin-1")) if spelled else None

    def text(self, text: str) -> str:
        """`text` without the credentials."""
        return text if self._in_text is None else self._in_text.sub(MARK, text)

    def data(self, data: bytes) -> bytes:
        """`data`, in UTF-8, without the credentials."""
        return data if self._in_data is None else self._in_data.sub(MARK.encode(), data)


NOTHING = Redaction()


def credentials_in(headers: Iterable[str]) -> Iterator[str]:
    """The credentials in the values of headers: `Bearer KEY`, `Basic ...`, or the key alone."""
    for value in headers:
        scheme, _, rest = value.rpartition(" ")
        yield rest
        if scheme.lower() == "basic":
            pair = base64.b64decode(rest).decode()
            yield pair
            yield pair.partition(":")[2]


def _forms(credential: str) -> Iterator[str]:
    """Patterns of what a credential looks like: itself, and the start of a text in base64."""
    yield "".join(map(_spellings, credential))
    whole = credential[: len(credential) // 3 * 3].encode("latin-1", "replace")
    for encoded in {base64.b64encode(whole), base64.urlsafe_b64encode(whole)}:
        yield "".join(map(_spellings, encoded.decode())) + r"[A-Za-z0-9+/_=-]*"


_ENTITIES = {'"': "|quot", "&": "|amp", "'": "|apos", "<": "|lt", ">": "|gt"}


def _spellings(sign: str) -> str:
    """A pattern for one character; letters and digits are spelled in one way everywhere."""
    if sign.isalnum() or sign in "-_.":
        return re.escape(sign)
    code = ord(sign)
    hexadecimal = rf"(?i:{code:02x})"
    return (
        rf"(?:\\?{re.escape(sign)}|\\u00{hexadecimal}|%{hexadecimal}"
        rf"|&(?:\#{code}|\#[xX]{hexadecimal}{_ENTITIES.get(sign, '')});)"
    )
