"""What routes need, hung on the app once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from model.cpu import CpuBudget
from service.core.serving import ServingCore
from service.metrics import Metrics
from service.settings import Settings

if TYPE_CHECKING:
    from service.grpc.server import GrpcServer


@dataclass(frozen=True)
class Services:
    """One app's parts."""

    settings: Settings
    core: ServingCore
    metrics: Metrics
    cpu: CpuBudget
    grpc: GrpcServer | None = None  # where it is on


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services
