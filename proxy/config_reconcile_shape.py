"""The shape of `providers.NAME.reconcile`; the rules are those of `proxy.config_shape`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from proxy.config_values import FORBID, Share, Text


@dataclass(frozen=True, kw_only=True)
class ReconcileShape:
    """How an account is compared with what its provider says."""

    __pydantic_config__ = FORBID

    admin_key: Text | None = None
    """Key of the organisation that may read usage and costs, as `${NAME}`; files only without."""
    url: Text | None = None
    """Address of that API, up to and including `/v1`; the vendor's own if left out."""
    project_ids: tuple[Text, ...] = ()
    """Projects (OpenAI) or workspaces (Anthropic) of this account, by id and, for files, by name;
    everything if left out."""
    api_key_ids: tuple[Text, ...] = ()
    """The provider's ids of the keys that this account calls with; every key if left out."""
    models: Mapping[Text, Text] = field(default_factory=dict)
    """The provider's name of a model, by ours, where they differ by more than a date."""
    alert_at: Share = Decimal("0.15")
    """Drift of a model's cost, as a share of what the provider charges, that is an alert."""
