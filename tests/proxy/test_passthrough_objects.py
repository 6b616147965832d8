"""What lives at a provider is its tenant's, on real sockets and through Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import orjson
import pytest
from fixtures_door import KEY, OpenDoor, RunningDoor, tenant
from fixtures_upstream import ScriptedUpstream, body, event, streamed
from passthrough_samples import OTHER_KEY, ask, other_tenant, passing_settings, terms

from metering.caps import CapsUnavailableError
from metering.memory_owners import MemoryOwners
from metering.ownership import Looked
from proxy.errors import BudgetBackendUnavailable
from proxy.passthrough_errors import ObjectNotFound, TooManyObjects
from proxy.passthrough_objects import Ownership, learnt
from proxy.passthrough_paths import ROWS, Row


async def two_tenants(open_door: OpenDoor, upstream: ScriptedUpstream) -> RunningDoor:
    """A door for two tenants without caps."""
    configured = passing_settings(
        upstream.url, who=tenant(cap=None), others=(other_tenant(cap=None),)
    )
    return await open_door(configured)


async def code_of(answer: aiohttp.ClientResponse) -> tuple[int, str]:
    return answer.status, (await answer.json())["error"]["code"]


FILE = body({"id": "file-abc", "object": "file"})


async def test_a_file_is_its_tenants(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """Who made it can read it; for anybody else it is not there, and nothing is asked."""
    upstream.scripts = [[FILE]]
    door = await two_tenants(open_door, upstream)

    made = await ask(door, "POST", "/v1/files", json={"purpose": "x"})
    own = await ask(door, "GET", "/v1/files/file-abc")
    foreign = await ask(door, "GET", "/v1/files/file-abc", key=OTHER_KEY)
    content = await ask(door, "GET", "/v1/files/file-abc/content", key=OTHER_KEY)

    assert (made.status, own.status) == (200, 200)
    assert await code_of(foreign) == (404, "object_not_found")
    assert await code_of(content) == (404, "object_not_found")
    assert (await foreign.json())["error"]["message"] == "No such File object: file-abc"
    assert len(upstream.received) == 2


REFERENCES = {
    "batch": ("/v1/batches", {"input_file_id": "file-abc"}),
    "nested": ("/v1/assistants", {"tool_resources": {"code": {"file_ids": ["file-abc"]}}}),
    "training": ("/v1/fine_tuning/jobs", {"model": "m2", "training_file": "file-abc"}),
    "vector_store": ("/v1/threads", {"x": [{"vector_store_ids": ["vs_1"]}]}),
    "previous": ("/v1/conversations", {"previous_response_id": "resp_1"}),
    "item": ("/v1/conversations", {"items": [{"type": "item_reference", "id": "msg_1"}]}),
}


@pytest.mark.parametrize(("path", "said"), REFERENCES.values(), ids=REFERENCES)
async def test_ids_in_bodies_are_looked_at(
    open_door: OpenDoor, upstream: ScriptedUpstream, path: str, said: dict[str, object]
) -> None:
    """An id that is not the tenant's opens nothing from within a body either."""
    upstream.scripts = [[FILE]]
    door = await two_tenants(open_door, upstream)
    await ask(door, "POST", "/v1/files", json={"purpose": "x"})

    answer = await ask(door, "POST", path, json=said, key=OTHER_KEY)

    assert await code_of(answer) == (404, "object_not_found")
    assert len(upstream.received) == 1


async def test_a_deleted_object_is_gone(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """After the provider has deleted it, its id is as unknown as any other."""
    upstream.scripts = [[FILE]]
    door = await two_tenants(open_door, upstream)

    await ask(door, "POST", "/v1/files", json={"purpose": "x"})
    await ask(door, "DELETE", "/v1/files/file-abc")
    again = await ask(door, "GET", "/v1/files/file-abc")

    assert [each.method for each in upstream.received] == ["POST", "DELETE"]
    assert again.status == 404


async def test_what_a_batch_makes_is_its_tenants(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """The output file of a batch can be read once the batch has named it."""
    done = body({"id": "batch_1", "object": "batch", "output_file_id": "file-out"})
    upstream.scripts = [[body({"id": "batch_1"})], [done], [body(b"rows")]]
    door = await two_tenants(open_door, upstream)

    await ask(door, "POST", "/v1/batches", json={"endpoint": "/v1/responses"})
    before = await ask(door, "GET", "/v1/files/file-out/content")
    await ask(door, "GET", "/v1/batches/batch_1")
    after = await ask(door, "GET", "/v1/files/file-out/content")

    assert (before.status, after.status, await after.read()) == (404, 200, b"rows")


async def test_a_streamed_run_teaches_its_thread(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """A thread that was made on the way, in a stream, is the tenant's too."""
    run = event({"object": "thread.run", "id": "run_1", "thread_id": "thread_9"})
    upstream.scripts = [streamed(run), [body({"id": "thread_9"})]]
    door = await two_tenants(open_door, upstream)

    answer = await ask(door, "POST", "/v1/threads/runs", json={"stream": True})
    streamed_bytes = await answer.read()
    own = await ask(door, "GET", "/v1/threads/thread_9")
    foreign = await ask(door, "GET", "/v1/threads/thread_9", key=OTHER_KEY)

    assert (streamed_bytes, own.status, foreign.status) == (run, 200, 404)


def page(ids: Sequence[str], *, has_more: bool) -> bytes:
    return body({"object": "list", "data": [{"id": each} for each in ids], "has_more": has_more})


async def test_a_list_shows_its_own(open_door: OpenDoor, upstream: ScriptedUpstream) -> None:
    """The account's pages are read until there is enough; foreign ids appear nowhere."""
    upstream.scripts = [
        [body({"id": "file-a"})],
        [body({"id": "file-b"})],
        [page(["file-x", "file-a"], has_more=True)],
        [page(["file-y", "file-b", "file-z"], has_more=False)],
    ]
    door = await two_tenants(open_door, upstream)
    for _ in range(2):
        await ask(door, "POST", "/v1/files", json={"purpose": "x"})

    answer = await ask(door, "GET", "/v1/files?limit=5&purpose=batch&order=asc")

    assert await answer.json() == {
        "object": "list",
        "data": [{"id": "file-a"}, {"id": "file-b"}],
        "first_id": "file-a",
        "last_id": "file-b",
        "has_more": False,
    }
    assert [each.path for each in upstream.received[2:]] == [
        "/v1/files?purpose=batch&order=asc&limit=100",
        "/v1/files?purpose=batch&order=asc&limit=100&after=file-a",
    ]


async def test_a_cursor_is_an_id_like_any_other(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Nobody pages from another's row."""
    upstream.scripts = [[FILE]]
    door = await two_tenants(open_door, upstream)
    await ask(door, "POST", "/v1/files", json={"purpose": "x"})

    foreign = await ask(door, "GET", "/v1/files?after=file-abc", key=OTHER_KEY)
    backwards = await ask(door, "GET", "/v1/files?before=file-abc")

    assert (foreign.status, backwards.status) == (404, 400)


async def test_an_account_of_its_own_needs_no_map(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What is in it is the tenant's, whoever put it there; its lists come as they are."""
    listed = page(["file-x", "file-y"], has_more=True)
    upstream.scripts = [[listed]]
    configured = passing_settings(
        upstream.url,
        who=tenant(cap=None),
        passthrough=terms(provider="two", own_accounts={"acme": "one"}),
    )
    door = await open_door(configured)

    answer = await ask(door, "GET", "/v1/files?limit=2&before=file-q")

    assert listed.endswith(await answer.read())
    assert upstream.received[0].path == "/v1/files?limit=2&before=file-q"


async def test_an_object_is_noted_although_its_client_left(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """Whoever comes back finds what it has made."""
    from fixtures_upstream import Act

    upstream.scripts = [[Act.WAIT, FILE], [FILE]]
    door = await two_tenants(open_door, upstream)
    asking = asyncio.ensure_future(ask(door, "POST", "/v1/files", json={"purpose": "x"}))
    while not upstream.received:
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    upstream.proceed.set()
    while not door.events:
        await asyncio.sleep(0.01)

    own = await ask(door, "GET", "/v1/files/file-abc", key=KEY)

    assert own.status == 200


class AwayOwners(MemoryOwners):
    """As Redis when it is away."""

    is_away = True

    async def look(self, tenant: str, names: Sequence[str]) -> Looked:
        if self.is_away:
            raise CapsUnavailableError("away")
        return await super().look(tenant, names)

    async def note(self, tenant: str, names: Sequence[str], *, is_passing: bool) -> None:
        if self.is_away:
            raise CapsUnavailableError("away")
        await super().note(tenant, names, is_passing=is_passing)


async def test_what_could_not_be_noted_is_noted_later() -> None:
    """Redis away, nobody is let through; what was made meanwhile is known once it is back."""
    owners = AwayOwners()
    owned = Ownership(owners, retry_s=0.001)

    await owned.note("acme", "one", ["file-1"])
    with pytest.raises(BudgetBackendUnavailable):
        await owned.check("acme", "one", ["file-1"])
    owners.is_away = False
    await owned.check("acme", "one", ["file-1"])
    while not owners.kept:
        await asyncio.sleep(0.001)

    with pytest.raises(ObjectNotFound):
        await owned.check("other", "one", ["file-1"])
    with pytest.raises(ObjectNotFound):
        await owned.check("acme", "two", ["file-1"])


async def test_where_a_request_may_go() -> None:
    """To the accounts that have all it names; to every one where it names nothing."""
    owned = Ownership()
    await owned.note("acme", "one", ["file-1", "resp-1"])
    await owned.note("acme", "two", ["file-1"])

    assert await owned.holders("acme", ["two", "one"], ["file-1"]) == ("two", "one")
    assert await owned.holders("acme", ["two", "one"], ["file-1", "resp-1"]) == ("one",)
    assert await owned.holders("other", ["two", "one"], []) == ("two", "one")
    with pytest.raises(ObjectNotFound):
        await owned.holders("other", ["two", "one"], ["file-1"])


async def test_a_tenant_keeps_so_many() -> None:
    """One more is refused before it is made, and those it has stay its own."""
    owned = Ownership()
    await owned.note("acme", "one", ["file-1", "file-2"])

    await owned.check("acme", "one", ["file-1"], makes_max=3)
    with pytest.raises(TooManyObjects):
        await owned.check("acme", "one", ["file-1"], makes_max=2)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_answers_teach_only_what_they_should(row: Row) -> None:
    """What a client wrote into an object teaches nothing, whatever it is called."""
    answer = {
        "id": "id_1",
        "metadata": {"output_file_id": "file-stolen", "id": "file-stolen"},
        "input_file_id": "file-stolen",
        "data": [{"id": "x", "metadata": {"output_file_id": "file-stolen"}}],
    }

    assert set(learnt(row, orjson.loads(orjson.dumps(answer)))) <= {"id_1"}
