"""From error codes to gRPC's statuses: the one table."""

from __future__ import annotations

from grpc import StatusCode

STATUS_BY_CODE: dict[str, StatusCode] = {
    # the caller's request
    **dict.fromkeys(
        (
            "malformed_request",
            "invalid_request",
            "body_too_large",
            "image_too_large",
            "too_many_images",
            "too_many_rows",
            "unsupported_media_type",
            "unsupported_image_type",
            "invalid_field",
            "no_tasks",
            "duplicate_task",
            "no_images",
            "unknown_task",
            "invalid_image",
        ),
        StatusCode.INVALID_ARGUMENT,
    ),
    **dict.fromkeys(("key_required", "key_unknown"), StatusCode.UNAUTHENTICATED),
    **dict.fromkeys(("access_refused", "scope_missing", "admin_off"), StatusCode.PERMISSION_DENIED),
    **dict.fromkeys(("unknown_model", "unknown_version"), StatusCode.NOT_FOUND),
    **dict.fromkeys(
        (
            "no_previous_model",
            "version_in_use",
            "too_many_versions",
            "strategy_fixed",
            "load_failed",
            "latest_moved",
        ),
        StatusCode.FAILED_PRECONDITION,
    ),
    # not now
    "overloaded": StatusCode.RESOURCE_EXHAUSTED,
    "client_gone": StatusCode.CANCELLED,
    **dict.fromkeys(
        (
            "try_later",
            "loading",
            "model_unavailable",
            "draining",
            "engine_down",
            "bad_bundle",
            "repository_unreadable",
        ),
        StatusCode.UNAVAILABLE,
    ),
    "deadline_exceeded": StatusCode.DEADLINE_EXCEEDED,
    # our faults
    **dict.fromkeys(
        (
            "error",
            "service_error",
            "invalid_config",
            "model_too_large",
            "row_failed",
            "non_finite_logits",
            "forward_failed",
            "out_of_memory",
            "internal_error",
        ),
        StatusCode.INTERNAL,
    ),
}
