"""Forms are read as everybody reads them, or refused."""

from __future__ import annotations

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.multipart import read_form

KIND = "multipart/form-data; boundary=xyz"


def form(*parts: bytes, end: bytes = b"--xyz--\r\n") -> bytes:
    return b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + end


def field(name: bytes, value: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value


def test_fields_and_their_places() -> None:
    """Values are found, empty ones too, and a file is one by its file name."""
    raw = form(
        field(b"model", b"m"),
        field(b"empty", b""),
        b'Content-Disposition: form-data; name="file"; filename="a b.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\x00--xy\r\n--xzz",
        field(b"include[]", b"a"),
        field(b"include[]", b"b"),
    )

    found = read_form(raw, KIND)

    assert found.value("model") == "m"
    assert found.value("empty") == ""
    assert found.values("include") == ["a", "b"]
    assert [part.is_file for part in found.parts] == [False, False, True, False, False]
    assert found.replaced("model", "other") == raw.replace(b"\r\n\r\nm\r\n", b"\r\n\r\nother\r\n")


ODD: dict[str, tuple[bytes, str]] = {
    "preamble": (b"x\r\n" + form(field(b"a", b"b")), KIND),
    "epilogue": (form(field(b"a", b"b")) + b"--xyz\r\n", KIND),
    "no_end": (form(field(b"a", b"b"), end=b""), KIND),
    "bare_lf": (form(field(b"a", b"b")).replace(b"\r\n", b"\n"), KIND),
    "no_blank_line": (form(b'Content-Disposition: form-data; name="a"'), KIND),
    "two_dispositions": (form(b"Content-Disposition: form-data\r\n" + field(b"a", b"b")), KIND),
    "encoded_part": (form(b"Content-Transfer-Encoding: base64\r\n" + field(b"a", b"b")), KIND),
    "escaped_name": (form(field(b'mod\\"el', b"b")), KIND),
    "name_star": (
        form(b"Content-Disposition: form-data; name*=utf-8''model\r\n\r\nb"),
        KIND,
    ),
    "two_names": (form(b'Content-Disposition: form-data; name="a"; name="b"\r\n\r\nc'), KIND),
    "folded": (form(b'Content-Disposition: form-data;\r\n name="a"\r\n\r\nb'), KIND),
    "no_boundary": (form(field(b"a", b"b")), "multipart/form-data"),
    "two_boundaries": (form(field(b"a", b"b")), f"{KIND}; boundary=abc"),
    "long_boundary": (form(field(b"a", b"b")), "multipart/form-data; boundary=" + "x" * 71),
    "boundary_goes_on": (form(field(b"a", b"b\r\n--xyzz")), KIND),
    "empty": (b"--xyz--\r\n", KIND),
}


@pytest.mark.parametrize(("raw", "kind"), ODD.values(), ids=ODD)
def test_what_is_not_read_alike_is_refused(raw: bytes, kind: str) -> None:
    """The refusal says what is odd about it."""
    with pytest.raises(InvalidRequest):
        read_form(raw, kind)


def test_a_field_that_comes_twice() -> None:
    """Nobody knows which one the upstream takes."""
    found = read_form(form(field(b"model", b"a"), field(b"model", b"b")), KIND)

    with pytest.raises(InvalidRequest):
        found.value("model")


CLIENTS = {
    "httpx": ("6b0a0c3f9f4e4bb7b9f5b0d7e1c2a3f4", b""),  # the OpenAI client for Python
    "undici": ("----formdata-undici-0123456789", b""),  # Node
    "curl": ("------------------------d74496d66958873e", b""),
    "browser": ("----WebKitFormBoundary7MA4YWxkTrZu0gW", b""),
    "requests": ("b0d7", b"Content-Type: text/plain; charset=utf-8\r\n"),
}


@pytest.mark.parametrize(("boundary", "header"), CLIENTS.values(), ids=CLIENTS)
def test_what_clients_send(boundary: str, header: bytes) -> None:
    """Each with its own boundary, and a file name in whatever letters."""
    line = b"--" + boundary.encode() + b"\r\n"
    raw = b"".join(
        [
            line + b'Content-Disposition: form-data; name="model"\r\n' + header,
            b"\r\nwhisper-1\r\n" + line,
            'Content-Disposition: form-data; name="file"; filename="spr\u00fcche.mp3"\r\n'.encode(),
            b"Content-Type: audio/mpeg\r\n\r\n\x00\x01\r\n",
            line.rstrip() + b"--\r\n",
        ]
    )

    found = read_form(raw, f"multipart/form-data; boundary={boundary}")

    assert found.value("model") == "whisper-1"
    assert [part.name for part in found.parts if part.is_file] == ["file"]


async def test_what_aiohttp_sends() -> None:
    """aiohttp adds a type to its texts."""
    data = aiohttp.FormData()
    data.add_field("model", "whisper-1")
    data.add_field("file", b"\x00", filename="a.mp3", content_type="audio/mpeg")
    writer = data()
    raw = await writer.as_bytes()

    found = read_form(raw, writer.content_type)

    assert found.value("model") == "whisper-1"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """Nothing but a refusal is ever raised, and what is found lies within the body."""
    for body in (raw, b"--xyz\r\n" + raw, form(raw), form(field(b"a", raw))):
        try:
            found = read_form(body, KIND)
        except InvalidRequest:
            continue
        assert all(0 <= part.start <= part.end <= len(body) for part in found.parts)
