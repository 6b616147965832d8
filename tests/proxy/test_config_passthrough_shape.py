"""The shape of `passthrough`."""

from __future__ import annotations

from dataclasses import fields

from proxy.config_passthrough_shape import PassthroughShape, PathTermsShape
from proxy.passthrough_rules import Passthrough


def test_what_is_left_out_is_what_the_terms_have() -> None:
    """The defaults of the file are those of the settings."""
    written = PassthroughShape(provider="x")

    assert written.objects_max == Passthrough("x").objects_max
    assert written.hold_usd is Passthrough("x").hold_nano is None
    assert [each.default for each in fields(PathTermsShape)] == [None, None]
