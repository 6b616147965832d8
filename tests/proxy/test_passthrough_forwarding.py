"""What comes back: unpacked where it was packed, named where it failed, without what is ours."""

from __future__ import annotations

import gzip

import pytest
from fixtures_door import PROVIDER_KEY, OpenDoor, usd
from fixtures_upstream import Act, ScriptedUpstream, body, head
from passthrough_samples import ask, passing_settings, terms

URL = "/v1/images/generations"
ASKED = {"model": "dall-e-2"}


async def test_a_packed_answer(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """What is compressed although it was asked for plain is read all the same."""
    packed = gzip.compress(b'{"data": [{}, {}, {}]}')
    upstream.scripts = [[body(packed, extra="Content-Encoding: gzip\r\n")]]
    door = await open_door(passing_settings(upstream.url))

    answer = await ask(door, "POST", URL, json=ASKED)

    assert await answer.read() == b'{"data": [{}, {}, {}]}'
    assert door.events[0].admission_nano == usd("0.12")


FAILED = {
    "encoded": ([body(b"x", extra="Content-Encoding: br\r\n")], 502, "upstream_error"),
    "closed": ([Act.CLOSE], 502, "upstream_error"),
    "unauthorized": ([body({"error": {}}, status=401)], 502, "upstream_auth"),
    "quota": (
        [body({"error": {"code": "insufficient_quota"}}, status=429)],
        503,
        "upstream_quota",
    ),
    "redirect": ([body(b"", status=302, extra="Location: /x\r\n")], 502, "upstream_error"),
}


@pytest.mark.parametrize(("script", "status", "code"), FAILED.values(), ids=FAILED)
async def test_failures(
    open_door: OpenDoor,
    upstream: ScriptedUpstream,
    script: list[bytes | Act],
    status: int,
    code: str,
) -> None:
    """Told as for a chat completion, and not billed."""
    upstream.scripts = [script]
    door = await open_door(passing_settings(upstream.url))

    answer = await ask(door, "POST", URL, json=ASKED)

    assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
    assert [(made.billable, made.admission_nano) for made in door.events] == [(False, 0)]


async def test_an_error_shows_no_credential(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Our key, quoted in an error, becomes stars."""
    upstream.scripts = [[body({"error": {"message": f"bad {PROVIDER_KEY}"}}, status=400)]]
    door = await open_door(passing_settings(upstream.url))

    answer = await ask(door, "POST", URL, json=ASKED)

    assert PROVIDER_KEY not in await answer.text()


async def test_what_a_list_of_another_shape_becomes(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What cannot be filtered is shown to nobody; an error of the provider's is relayed."""
    upstream.scripts = [
        [body([{"id": "file-foreign"}])],
        [body({"error": {"message": "no"}}, status=404)],
    ]
    door = await open_door(passing_settings(upstream.url))

    odd = await ask(door, "GET", "/v1/files")
    refused = await ask(door, "GET", "/v1/files")

    assert (odd.status, refused.status) == (502, 404)
    assert "foreign" not in await odd.text()


async def test_headers_of_an_answer(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Type and disposition of the provider's, and ours; a page that was uploaded does not run."""
    upstream.scripts = [
        [
            head(
                kind="text/html",
                extra="Content-Disposition: attachment\r\nSet-Cookie: a=b\r\nx-internal: 1\r\n",
            )
            + b"Content-Length: 1\r\n\r\nx"
        ]
    ]
    own = terms(own_accounts={"acme": "one"})
    door = await open_door(passing_settings(upstream.url, passthrough=own))

    answer = await ask(door, "GET", "/v1/files/file-1/content")

    assert await answer.read() == b"x"
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["x-weir-provider"] == "one"
    assert "Set-Cookie" not in answer.headers
    assert "x-internal" not in answer.headers


async def test_a_files_content_is_no_answer_of_json(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A file that looks like an answer teaches nothing and is not read whole."""
    said = b'{"id": "file-stolen", "output_file_id": "file-stolen"}'
    upstream.scripts = [[body({"id": "file-1"})], [body(said)]]
    door = await open_door(passing_settings(upstream.url))
    await ask(door, "POST", "/v1/files", json={"purpose": "x"})

    content = await ask(door, "GET", "/v1/files/file-1/content")
    stolen = await ask(door, "GET", "/v1/files/file-stolen")

    assert (await content.read(), stolen.status) == (said, 404)
