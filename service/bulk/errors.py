"""Errors of a bulk job.

TaskRouteError
└── BulkError            the job cannot go on; what is finished stays
    └── BulkUsageError   what was asked for cannot be: nothing was begun
"""

from __future__ import annotations

from model.errors import TaskRouteError


class BulkError(TaskRouteError):
    """The job cannot go on; the parts that are finished stay."""

    code = "bulk_failed"


class BulkUsageError(BulkError):
    """What was asked for cannot be; nothing was begun."""

    code = "bulk_usage"
