"""The controllers' process: discovery, caches, then every controller that is enabled and served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import uuid

from buoy.api.resource import Resource
from buoy.api.status import StatusError
from buoy.client import Client, ConnectionFailed, lead

from .context import Context, Controller
from .cronjob import CronJobController
from .daemonset import DaemonSetController
from .deployment import DeploymentController
from .discovery import Discovery, discover
from .endpoints import EndpointsController
from .endpointslice import EndpointSliceController
from .endpointslicemirroring import EndpointSliceMirroringController
from .ephemeralvolume import EphemeralVolumeController
from .garbagecollector import GarbageCollector
from .informers import Informers
from .job import JobController
from .localpath import LocalPathProvisioner
from .namespace import NamespaceController
from .nodeipam import NodeIPAMController
from .nodelifecycle import NodeLifecycleController
from .options import Options
from .persistentvolume import PersistentVolumeController
from .podgc import PodGC
from .pvcprotection import PVCProtectionController
from .pvprotection import PVProtectionController
from .replicaset import ReplicaSetController
from .rootca import RootCAPublisher
from .serviceaccount import ServiceAccountController
from .statefulset import StatefulSetController
from .tainteviction import TaintEvictionController
from .ttlafterfinished import TTLAfterFinishedController

log = logging.getLogger(__name__)

_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
_RECONNECT = 0.05


def controllers(context: Context) -> list[Controller]:
    """Those that are enabled and whose kinds are served.

    The garbage collector comes last, so that it can share what the others cache.
    """
    options = context.options
    factories: list[type[Controller]] = [
        DeploymentController,
        ReplicaSetController,
        StatefulSetController,
        DaemonSetController,
        JobController,
        CronJobController,
        TTLAfterFinishedController,
        EndpointsController,
        EndpointSliceController,
        EndpointSliceMirroringController,
        NamespaceController,
        ServiceAccountController,
        NodeLifecycleController,
        TaintEvictionController,
        PodGC,
        PersistentVolumeController,
        PVCProtectionController,
        PVProtectionController,
        EphemeralVolumeController,
    ]
    if options.local_path_nodes:
        factories.append(LocalPathProvisioner)
    if options.root_ca_file:
        factories.append(RootCAPublisher)
    if options.cluster_cidrs:
        factories.append(NodeIPAMController)
    factories.append(GarbageCollector)
    served = set(map(_address, context.discovery.resources("list", "watch")))
    made = []
    for factory in factories:
        missing = [each.plural for each in factory.resources if _address(each) not in served]
        if missing and options.enabled(factory.name):
            log.warning("%s does not run: the server has no %s", factory.name, ", ".join(missing))
        elif options.enabled(factory.name):
            made.append(factory(context))  # type: ignore[call-arg]
    return made


def _address(resource: Resource) -> tuple[str, str]:
    return resource.group, resource.plural


async def run(options: Options) -> None:
    async with (
        Client.from_kubeconfig(options.kubeconfig, user_agent="buoy-controllers") as client,
        Client.from_kubeconfig(
            options.kubeconfig, user_agent="buoy-controllers/metadata", accept=_METADATA_ONLY
        ) as metadata_client,
    ):

        async def work() -> None:
            await _work(client, metadata_client, options)

        if options.leader_elect:
            identity = f"{socket.gethostname()}_{uuid.uuid4()}"
            await lead(client, "kube-controller-manager", identity, work)
        else:
            await work()


async def _work(client: Client, metadata_client: Client, options: Options) -> None:
    context = Context(client, metadata_client, await _discover(client), Informers(client), options)
    made = controllers(context)
    async with asyncio.TaskGroup() as group:
        group.create_task(context.informers.run())
        for recorder in context.recorders:
            group.create_task(recorder.run())
        await context.informers.synced()
        log.info("caches are full; %d controllers start", len(made))
        for controller in made:
            group.create_task(controller.run())


async def _discover(client: Client) -> Discovery:
    """Wait for the API server: it may be starting too."""
    delay = _RECONNECT
    while True:
        with contextlib.suppress(ConnectionFailed):
            try:
                found = await discover(client)
            except StatusError as error:
                log.warning("discovery: %s", error)
            else:
                if not found.failed:
                    return found
                log.warning("discovery: no answer from %s", ", ".join(found.failed))
        await asyncio.sleep(delay)
        delay = min(2 * delay, 2.0)
