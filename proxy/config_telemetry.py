"""`telemetry`: where traces go. Messages show neither the address nor a header's value."""

from __future__ import annotations

import re

from metering.money import to_ppm
from proxy.config_alerts import check_url
from proxy.config_decode import Findings
from proxy.config_telemetry_shape import TelemetryShape
from proxy.config_yaml import Path
from proxy.settings import Secret, Telemetry

SECTION: Path = ("telemetry",)

_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_HEADER_VALUE = re.compile(r"[ -~]{1,4096}")
_OURS = frozenset({"content-type", "content-length", "host", "transfer-encoding", "user-agent"})


def build_telemetry(written: TelemetryShape | None, findings: Findings) -> Telemetry | None:
    """The settings, sound or reported; None without the section: nothing is traced then."""
    if written is None:
        return None
    path: Path = (*SECTION, "otlp")
    if (variable := findings.document.unset.get(path)) is not None:
        findings.fault(path, f"environment variable {variable} is not set")
    else:
        check_url(path, written.otlp, findings, what="traces")
    url = written.otlp.rstrip("/")
    if url.endswith(("/v1/traces", "/v1/metrics")):
        findings.fault(path, "ends with the path of one signal", "leave /v1/traces out")
    if not findings.is_broken(path) and ("?" in url or "#" in url):
        findings.fault(path, "must end with a path", "put a credential under headers")
    return Telemetry(
        otlp=url,
        headers={name: _header(name, value, findings) for name, value in written.headers.items()},
        resource=dict(written.resource),
        sample_ppm=_sample_ppm(written, findings),
    )


def _header(name: str, value: str, findings: Findings) -> Secret:
    path: Path = (*SECTION, "headers", name)
    variable = findings.document.unset.get(path)
    if variable is not None:
        findings.fault(path, f"environment variable {variable} is not set")
    elif not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
        findings.fault(path, "is not a header that can be sent", "x-api-key: ${COLLECTOR_KEY}")
    elif name.lower() in _OURS:
        findings.fault(path, "is a header that we set ourselves", "leave it out")
    elif findings.document.literal(path):
        findings.secret(path, "a credential in clear text", "write ${COLLECTOR_KEY}")
    return Secret(value)


def _sample_ppm(written: TelemetryShape, findings: Findings) -> int:
    try:
        return to_ppm(written.sample)
    except ValueError as error:
        findings.fault((*SECTION, "sample"), str(error))
        return 0
