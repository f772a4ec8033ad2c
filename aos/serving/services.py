"""Servicers as services that a server can add: whose descriptor, added by which generated function."""

from __future__ import annotations

import grpc

from aos.clock import Clock
from aos.rpc.server import Service
from aos.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    broker_pb2,
    broker_pb2_grpc,
    callbacks_pb2,
    callbacks_pb2_grpc,
    controllers_pb2,
    controllers_pb2_grpc,
    dispatcher_pb2,
    dispatcher_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    requests_pb2,
    requests_pb2_grpc,
)
from gateway.ai_projects import AiProjectsServicer
from gateway.aici import AiciServicer
from gateway.jobs import JobsServicer
from gateway.models import ModelsServicer
from gateway.operators import OperatorsServicer
from gateway.opml_callbacks import OpmlCallbacksServicer
from gateway.projects import ProjectsServicer
from gateway.v1 import (
    ai_projects_pb2,
    ai_projects_pb2_grpc,
    aici_pb2,
    aici_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    operators_pb2,
    operators_pb2_grpc,
    opml_pb2,
    opml_pb2_grpc,
    pages_pb2,
    pages_pb2_grpc,
    projects_pb2,
    projects_pb2_grpc,
    zerog_pb2,
    zerog_pb2_grpc,
)


def registry_service(servicer: registry_pb2_grpc.RegistryServicer) -> Service:
    """Return the Registry, to be served."""
    return Service(registry_pb2.DESCRIPTOR.services_by_name["Registry"], registry_pb2_grpc.add_RegistryServicer_to_server, servicer)


def broker_service(servicer: broker_pb2_grpc.BrokerServicer) -> Service:
    """Return the Broker, to be served."""
    return Service(broker_pb2.DESCRIPTOR.services_by_name["Broker"], broker_pb2_grpc.add_BrokerServicer_to_server, servicer)


def requests_service(servicer: requests_pb2_grpc.RequestsServicer) -> Service:
    """Return wallets' Requests, to be served."""
    descriptor = requests_pb2.DESCRIPTOR.services_by_name["Requests"]
    return Service(descriptor, requests_pb2_grpc.add_RequestsServicer_to_server, servicer)


def zerog_service(servicer: zerog_pb2_grpc.ZerogServicer) -> Service:
    """Return the compute network's dialect, to be served."""
    return Service(zerog_pb2.DESCRIPTOR.services_by_name["Zerog"], zerog_pb2_grpc.add_ZerogServicer_to_server, servicer)


def dispatcher_service(servicer: dispatcher_pb2_grpc.DispatcherServicer) -> Service:
    """Return the Dispatcher, to be served."""
    descriptor = dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"]
    return Service(descriptor, dispatcher_pb2_grpc.add_DispatcherServicer_to_server, servicer)


def images_service(servicer: images_pb2_grpc.ImagesServicer) -> Service:
    """Return the image dialect, to be served."""
    return Service(images_pb2.DESCRIPTOR.services_by_name["Images"], images_pb2_grpc.add_ImagesServicer_to_server, servicer)


def blobs_service(servicer: blobs_pb2_grpc.BlobsServicer) -> Service:
    """Return Blobs, to be served."""
    return Service(blobs_pb2.DESCRIPTOR.services_by_name["Blobs"], blobs_pb2_grpc.add_BlobsServicer_to_server, servicer)


def controllers_service(servicer: controllers_pb2_grpc.ControllersServicer) -> Service:
    """Return Controllers, to be served."""
    descriptor = controllers_pb2.DESCRIPTOR.services_by_name["Controllers"]
    return Service(descriptor, controllers_pb2_grpc.add_ControllersServicer_to_server, servicer)


def callbacks_service(servicer: callbacks_pb2_grpc.CallbacksServicer) -> Service:
    """Return Callbacks, to be served."""
    descriptor = callbacks_pb2.DESCRIPTOR.services_by_name["Callbacks"]
    return Service(descriptor, callbacks_pb2_grpc.add_CallbacksServicer_to_server, servicer)


def dialect_services(face: grpc.aio.Channel, clock: Clock) -> tuple[Service, ...]:
    """Return the dialects that need nothing but the services behind ``face``."""
    jobs, models = JobsServicer(face), ModelsServicer(face, clock)
    projects, operators = ProjectsServicer(face), OperatorsServicer(face)
    callbacks = opml_pb2.DESCRIPTOR.services_by_name["OpmlCallbacks"]
    registered = ai_projects_pb2.DESCRIPTOR.services_by_name["AiProjects"]
    return (
        Service(aici_pb2.DESCRIPTOR.services_by_name["Aici"], aici_pb2_grpc.add_AiciServicer_to_server, AiciServicer(face, clock)),
        Service(callbacks, opml_pb2_grpc.add_OpmlCallbacksServicer_to_server, OpmlCallbacksServicer(face)),
        Service(projects_pb2.DESCRIPTOR.services_by_name["Projects"], projects_pb2_grpc.add_ProjectsServicer_to_server, projects),
        Service(registered, ai_projects_pb2_grpc.add_AiProjectsServicer_to_server, AiProjectsServicer(face)),
        Service(
            operators_pb2.DESCRIPTOR.services_by_name["Operators"], operators_pb2_grpc.add_OperatorsServicer_to_server, operators
        ),
        Service(jobs_pb2.DESCRIPTOR.services_by_name["Jobs"], jobs_pb2_grpc.add_JobsServicer_to_server, jobs),
        Service(models_pb2.DESCRIPTOR.services_by_name["Models"], models_pb2_grpc.add_ModelsServicer_to_server, models),
    )


def pages_service(servicer: pages_pb2_grpc.PagesServicer) -> Service:
    """Return the status page, to be served."""
    return Service(pages_pb2.DESCRIPTOR.services_by_name["Pages"], pages_pb2_grpc.add_PagesServicer_to_server, servicer)


def metrics_service(servicer: metrics_pb2_grpc.MetricsServicer) -> Service:
    """Return Metrics, to be served."""
    return Service(metrics_pb2.DESCRIPTOR.services_by_name["Metrics"], metrics_pb2_grpc.add_MetricsServicer_to_server, servicer)
