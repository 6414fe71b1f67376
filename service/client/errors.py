"""What can go wrong for a caller.

ClientError
├── UnreachableError        no connection, or it broke: nothing was answered
├── DeadlinePassedError     the caller's own deadline, retries included
└── ServerRefusedError      an answer that says no: status, code, details, request_id
"""

from __future__ import annotations

from typing import Any

import httpx


class ClientError(Exception):
    """Base of the client's errors."""


class UnreachableError(ClientError):
    """The server could not be reached, or hung up."""


class DeadlinePassedError(ClientError):
    """The deadline passed before an answer; the last refusal, if any, is the cause."""


class ServerRefusedError(ClientError):
    """The server answered with an error."""

    def __init__(
        self, message: str, status: int, code: str, request_id: str, details: dict[str, Any]
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.details = details

    def __str__(self) -> str:
        known = f", request id {self.request_id}" if self.request_id else ""
        return f"{self.args[0]} ({self.status} {self.code}{known})"

    @classmethod
    def of(cls, response: httpx.Response) -> ServerRefusedError:
        """From any response; also one of a proxy between, which knows nothing of our errors."""
        request_id = response.headers.get("x-request-id", "")
        try:
            body = response.json()
            text, code = str(body["error"]), str(body.get("code", "error"))
            details = body.get("details")
        except (ValueError, KeyError, TypeError, AttributeError):
            text, code, details = response.text.strip()[:200] or response.reason_phrase, "http", {}
        details = details if isinstance(details, dict) else {}
        return cls(text, response.status_code, code, request_id, details)
