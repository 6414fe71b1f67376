"""The container's health check: exit code 0 when the service in it is ready, 1 when not.

Standard library only, and started without site-packages: it runs every few seconds beside the
service, on the same processors.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 2.5  # below the limit that the Dockerfile gives the whole check


def main() -> int:
    port = int(os.environ.get("TASKROUTE_PORT", "8000"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/v2/health/ready")
        response = connection.getresponse()
        body = response.read(1000).decode(errors="replace")
    except OSError as error:
        print(f"port {port} does not answer: {error}")
        return 1
    finally:
        connection.close()
    if response.status != http.client.OK:
        print(f"not ready ({response.status}): {body}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
