"""The dashboard's files: read once, named by what they hold, and never changed under a name.

Rules:
- The page itself is asked for anew each time (ETag); everything else lies under a path with the
  digest of all files in it and may be kept for ever.
- Nothing comes from elsewhere and nothing runs that is not one of these files: the policy says so,
  and a test reads the files for what it would forbid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What the pages may do; trusted types make the browser itself refuse text as HTML."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
FOREVER = "public, max-age=31536000, immutable"

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    "LICENSE.uplot": "text/plain",
}
_PLACE = b"{{assets}}"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    content_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class Assets:
    """All files; `digest` is of all of them together, since modules name each other."""

    digest: str
    files: Mapping[str, Asset]
    """By path below the folder: `js/app.js`."""

    def page(self, name: str) -> Asset:
        """A page with the paths of this version in it."""
        found = self.files[name].body.replace(_PLACE, f"/dashboard/assets/{self.digest}".encode())
        return _asset(name, found)


def load_assets() -> Assets:
    """Every file of the folder."""
    found = dict(_walk(files("proxy.dashboard").joinpath("static"), ""))
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode() + b"\0" + hashlib.sha256(found[name]).digest())
    made = {name: _asset(name, body) for name, body in found.items()}
    return Assets(digest.hexdigest()[:16], made)


def _walk(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        name = f"{path}{entry.name}"
        if entry.is_dir():
            found += _walk(entry, f"{name}/")
        elif any(name.endswith(suffix) for suffix in _TYPES):
            found.append((name, entry.read_bytes()))
    return found


def _asset(name: str, body: bytes) -> Asset:
    kind = next(kind for suffix, kind in _TYPES.items() if name.endswith(suffix))
    return Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
