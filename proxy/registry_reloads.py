"""What the supervisor knows of the registry: what is to be taken up, and by which text of the file.

Rules:
- A change of the registry is read with the file as it was taken up last: a file that is being
  edited, or is faulty, keeps no key from being revoked.
- A tenant that the registry itself has wrong is left out; a file that would leave out one that was
  served is refused, as if the tenant stood in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from proxy import metrics_catalogue as catalogue
from proxy import telemetry
from proxy.config_reading import Found, Read, ReadAgain
from proxy.config_registry import CALLED
from proxy.metrics import Metrics

WHY = "the registry has changed"

_NAMED_MAX = 20
"""So many tenants are named in a line of the log."""

_log = telemetry.logger("supervisor")


@dataclass(slots=True)
class RegistryReloads:
    """`text` is that of the file; without `read_again` nothing is taken up."""

    read_again: ReadAgain | None = None
    text: str = field(default="", repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict)
    is_current: bool = False
    """Whether what is being read, or told to the children, is the registry's."""
    _wanted: str | None = None

    def hear(self, version: str, running: str) -> None:
        """Another version lies beside the file."""
        if version != running:
            self._wanted = version

    @property
    def is_due(self) -> bool:
        """Whether there is something to take up."""
        return self._wanted is not None and self.read_again is not None

    def reader(self) -> Read:
        """Reads what is there now."""
        assert self.read_again is not None
        self._wanted = None
        return partial(self.read_again, self.text)

    def against(self, found: Found) -> list[dict[str, Any]]:
        """What speaks against a file: the tenants that it would take from service."""
        return [
            {"key": f"{CALLED}.{name}", "line": 0, "column": 0, "message": why, "suggestion": None}
            for name, why in found.left_out.items()
            if name not in self.left_out
        ]

    def take(self, found: Found, metrics: Metrics) -> None:
        """It is gone by from now on."""
        for name, why in found.left_out.items():
            if self.left_out.get(name) != why:
                _log.error("registry_tenant_left_out", tenant=name, cause=why)
        self.left_out = found.left_out
        if not self.is_current:
            self.text = found.text
        metrics.set(catalogue.REGISTRY_LEFT_OUT, to=len(found.left_out))

    def finish(self, applied: list[str], processes: Mapping[str, str], version: str) -> None:
        """Say what became of it."""
        more = {"more": len(applied) - _NAMED_MAX} if len(applied) > _NAMED_MAX else {}
        _log.info(
            "registry_taken_up",
            version=version,
            applied=applied[:_NAMED_MAX],
            processes=dict(processes),
            **more,
        )

    def refuse(self, faults: list[dict[str, Any]]) -> None:
        """It cannot be taken up as a whole."""
        causes = [str(each.get("message")) for each in faults]
        _log.error(
            "registry_not_taken_up",
            causes=causes[:_NAMED_MAX],
            remedy="what was there before is served; `weir config check` says more",
        )
