"""Keys from where AWS keeps them for a machine, a container or a person, found by botocore.

Its chain (environment, profile, SSO, web identity, container, instance) reads files and asks
servers, so it runs in a thread, one at a time, and nobody waits for it but the first: what it found
is good for some minutes more whenever it is asked again. botocore is imported when it is needed
first, and there, too: that takes 200 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from metering.background import spawn
from metering.clock import monotonic_s
from proxy.transport import Fault, TransportError
from proxy.vendors.bedrock.sigv4 import Keys

FRESH_S = 60.0
"""After this the chain is asked again, beside the requests. It knows itself when keys end, and has
new ones ten minutes before: asking costs microseconds where there is nothing to do."""

STALE_S = 540.0
"""After this without an answer what was found is not used any more: it may end a minute later."""

RETRY_S = 5.0
"""Between two attempts of which the first failed: a metadata server that is away is slow to say."""


class NoKeysError(Exception):
    """The chain ended without keys, or could not be asked; the message says what to do."""


class CredentialChain:
    """The keys of this process, asked for again when they are some time old."""

    def __init__(
        self, find: Callable[[], Keys], *, clock: Callable[[], float] = monotonic_s
    ) -> None:
        self._find = find
        self._clock = clock
        self._keys: Keys | None = None
        self._found_s = 0.0
        self._failure: NoKeysError | None = None
        self._failed_s = 0.0
        self._asking: asyncio.Task[Any] | None = None

    async def keys(self) -> Keys:
        """Keys that are good now; TransportError where there are none to be had."""
        now = self._clock()
        if self._keys is not None and now - self._found_s < FRESH_S:
            return self._keys
        asking = self._ask(now)
        if self._keys is not None and now - self._found_s < STALE_S:
            return self._keys
        if asking is not None:
            await asyncio.shield(asking)
        if self._keys is not None and self._clock() - self._found_s < STALE_S:
            return self._keys
        raise TransportError(Fault.UNREACHABLE, f"no AWS credentials: {self._failure}")

    def _ask(self, now: float) -> asyncio.Task[Any] | None:
        """The question that is under way, a new one where none is; None soon after a failure."""
        if self._asking is not None and not self._asking.done():
            return self._asking
        if self._failure is not None and now - self._failed_s < RETRY_S:
            return None
        self._asking = spawn(self._refresh(), name="aws-credentials")
        return self._asking

    async def _refresh(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._find)
            self._found_s, self._failure = self._clock(), None
        except NoKeysError as error:
            self._failure, self._failed_s = error, self._clock()


class BotocoreChain:
    """botocore's own chain, kept: it is what renews keys that end."""

    def __init__(self) -> None:
        self._credentials: Any = None

    def __call__(self) -> Keys:
        """The keys of now. Blocks; NoKeysError where there are none."""
        try:
            # the chain is for some installations only, and takes its time to import
            from botocore.exceptions import (  # type: ignore[import-untyped]  # noqa: PLC0415
                BotoCoreError,
            )
            from botocore.session import (  # type: ignore[import-untyped]  # noqa: PLC0415
                Session,
            )
        except ImportError:
            raise NoKeysError(
                "install tokenweir[bedrock], or set options.access_key_id and"
                " options.secret_access_key, or api_key"
            ) from None
        try:
            if self._credentials is None:
                self._credentials = Session().get_credentials()
            found = self._credentials and self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise NoKeysError(f"botocore could not find any ({type(error).__name__})") from error
        if not found or not found.access_key or not found.secret_key:
            raise NoKeysError("botocore found none in the environment, profiles or metadata")
        return Keys(found.access_key, found.secret_key, found.token)


CHAIN = CredentialChain(BotocoreChain())
"""There is one of it in a process, as there is one environment."""
