"""Errors of the service, beside those of :mod:`model.errors`.

    TaskRouteError                      (model.errors)
    └── ServiceError
        ├── RequestError                the caller must change the request
        │   ├── MalformedRequestError     malformed_request        does not parse
        │   ├── InvalidFieldError         invalid_field            a value that cannot be used
        │   │   ├── NoTasksError            no_tasks               a selection that is empty
        │   │   ├── DuplicateTaskError      duplicate_task         the same selector twice
        │   │   └── NoImagesError           no_images
        │   ├── UnsupportedMediaTypeError unsupported_media_type   no such form of body
        │   ├── HeadTooLargeError         head_too_large           request line and headers
        │   ├── HeadTimeoutError          head_timeout             headers that never end
        │   ├── BodyTooLargeError         body_too_large
        │   ├── TooManyImagesError        too_many_images
        │   ├── TooManyRowsError          too_many_rows            more than the queue can hold
        │   ├── LoadFailedError           load_failed              what is published is refused
        │   ├── NoPreviousModelError      no_previous_model        nothing to roll back to
        │   ├── VersionInUseError         version_in_use           it answers, so it stays loaded
        │   ├── TooManyVersionsError      too_many_versions        no place for one more
        │   ├── StrategyFixedError        strategy_fixed           nothing is chosen by measuring
        │   ├── AdminOffError             admin_off                no keys, so no administrators
        │   └── AccessError               access_refused           the caller may not do this
        │       ├── KeyRequiredError        key_required           no key
        │       ├── KeyUnknownError         key_unknown            wrong or revoked
        │       └── ScopeMissingError       scope_missing          not for this
        ├── TryLaterError               may succeed later: carries retry_after_s
        │   ├── OverloadedError           overloaded
        │   ├── LoadingError              loading
        │   ├── ModelUnavailableError     model_unavailable        no bundle could be loaded
        │   ├── DrainingError             draining
        │   └── EngineDownError           engine_down
        ├── DeadlineError               deadline_exceeded
        ├── ClientGoneError             client_gone                logged, counted, never sent
        └── RowError                    a fault of ours that concerns single rows
            ├── NonFiniteError            non_finite_logits
            ├── ForwardError              forward_failed
            └── RowMemoryError            out_of_memory            one row alone does not fit

None of them knows a status number: ``service.http.errors`` has the one table from code to status.
"""

from __future__ import annotations

from typing import Any

from model.errors import TaskRouteError


class ServiceError(TaskRouteError):
    """Base of the service's own errors."""

    code = "service_error"


class RequestError(ServiceError):
    """A request that can never succeed as it is."""

    code = "invalid_request"


class MalformedRequestError(RequestError):
    """A body or parameter that does not parse."""

    code = "malformed_request"


class InvalidFieldError(RequestError):
    """A field that parses but cannot be used; ``details["field"]`` names it."""

    code = "invalid_field"


class NoTasksError(InvalidFieldError):
    """A task selection that was given but selects nothing."""

    code = "no_tasks"


class DuplicateTaskError(InvalidFieldError):
    """The same task selector more than once."""

    code = "duplicate_task"


class NoImagesError(InvalidFieldError):
    """A request without an image."""

    code = "no_images"


class UnsupportedMediaTypeError(RequestError):
    """A Content-Type or Content-Encoding that is not one of the accepted ones."""

    code = "unsupported_media_type"


class HeadTooLargeError(RequestError):
    """More bytes of request line and headers than are read."""

    code = "head_too_large"


class HeadTimeoutError(RequestError):
    """Headers that did not come to an end in time."""

    code = "head_timeout"


class BodyTooLargeError(RequestError):
    """More bytes of body than the limit, declared or counted."""

    code = "body_too_large"


class TooManyImagesError(RequestError):
    """More images in one request than the limit."""

    code = "too_many_images"


class TooManyRowsError(RequestError):
    """More images x tasks in one request than the queue can ever hold."""

    code = "too_many_rows"


class LoadFailedError(RequestError):
    """A load that was asked for, and what is published was refused; the message says why."""

    code = "load_failed"


class AccessError(RequestError):
    """The caller may not do this."""

    code = "access_refused"


class KeyRequiredError(AccessError):
    """A request without an API key."""

    code = "key_required"


class KeyUnknownError(AccessError):
    """An API key that is wrong or was revoked."""

    code = "key_unknown"


class ScopeMissingError(AccessError):
    """A right key that is not for this; ``details["needed"]`` names the scope."""

    code = "scope_missing"


class NoPreviousModelError(RequestError):
    """A rollback without a version before the one that is served."""

    code = "no_previous_model"


class VersionInUseError(RequestError):
    """A version that is to be unloaded, and answers requests that name no version."""

    code = "version_in_use"


class TooManyVersionsError(RequestError):
    """One more version than may be in memory."""

    code = "too_many_versions"


class StrategyFixedError(RequestError):
    """Measuring strategies where a setting says which one runs."""

    code = "strategy_fixed"


class AdminOffError(RequestError):
    """Administration of a service where nobody is known to be an administrator."""

    code = "admin_off"


class TryLaterError(ServiceError):
    """The same request may succeed after ``retry_after_s`` seconds."""

    code = "try_later"

    def __init__(self, message: str, *, retry_after_s: int, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class OverloadedError(TryLaterError):
    """No room in the queue, or no hope of an answer in time; ``details["reason"]`` says which."""

    code = "overloaded"


class LoadingError(TryLaterError):
    """The model is still being loaded or warmed up."""

    code = "loading"


class ModelUnavailableError(TryLaterError):
    """No model could be loaded; the message says why."""

    code = "model_unavailable"


class DrainingError(TryLaterError):
    """The process is shutting down; another replica will answer."""

    code = "draining"


class EngineDownError(TryLaterError):
    """The engine thread died or hangs; the process is about to be restarted."""

    code = "engine_down"


class DeadlineError(ServiceError):
    """The request's deadline passed before its answer; ``details["stage"]`` says where."""

    code = "deadline_exceeded"


class ClientGoneError(ServiceError):
    """The client closed the connection before the answer."""

    code = "client_gone"


class RowError(ServiceError):
    """One row could not be computed; the others of its batch were."""

    code = "row_failed"


class NonFiniteError(RowError):
    """The network answered NaN or infinity."""

    code = "non_finite_logits"


class ForwardError(RowError):
    """The network raised for this row alone."""

    code = "forward_failed"


class RowMemoryError(RowError):
    """Not even this row alone fits into memory."""

    code = "out_of_memory"
