"""`python -m proxy.healthcheck [PORT]`: exit code 0 when `/healthz` answers, for a container.

Whether it is HTTP or HTTPS is tried, not configured. A certificate is not checked: the question is
whether our own process answers, on loopback.
"""

from __future__ import annotations

import http.client
import ssl
import sys

TIMEOUT_S = 2.0


def is_healthy(port: int) -> bool:
    """Whether somebody answers `/healthz` on this port of loopback with 200."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    for connection in (
        http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S),
        http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_S, context=unchecked),
    ):
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return True
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return False


if __name__ == "__main__":
    sys.exit(0 if is_healthy(int((sys.argv[1:] or ["8080"])[0])) else 1)
