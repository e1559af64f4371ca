"""The world of a local cluster: PID, mount, UTS, IPC and network namespaces that hold all of it.

Its first process makes the LAN, starts the control plane and the nodes, and keeps them running. When it
ends, the kernel ends every process, mount, interface and rule of the cluster.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial

from .. import apiserver, controllers, loadbalancer, network, scheduler
from ..network import lan
from . import faults, linux, node, storage, uplink
from .config import API_PORT, ClusterConfig
from .process import run_component, set_up_logging
from .state import StateFolder
from .supervisor import Process, Supervisor, in_child, spawn

_CONTROL_PLANE_ROUTES = "98"
"""The number of a routing table, which nothing else in the world has."""


def start(config: ClusterConfig, folder: StateFolder, api_socket: socket.socket) -> int:
    """Start the cluster's first process; its number on the host. *api_socket* listens on the host.

    Call `warm.import_components` first, and have no threads.
    """
    numbers, number = os.pipe()

    def step_aside() -> None:
        os.close(numbers)
        linux.unshare(linux.CLONE_NEWPID | linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
        first = spawn("buoy", lambda: _main(config, folder, api_socket), folder.log("world"))
        os.write(number, str(first).encode())

    aside = spawn("buoy", step_aside)
    os.close(number)
    try:
        pid = int(os.read(numbers, 32) or b"0")
        os.waitpid(aside, 0)
    finally:
        os.close(numbers)
    if not pid:
        raise ChildProcessError("the cluster's namespaces could not be made")
    return pid


def _main(config: ClusterConfig, folder: StateFolder, api_socket: socket.socket) -> None:
    set_up_logging()
    os.chdir("/")
    linux.sethostname(config.context)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    host_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.unshare(linux.CLONE_NEWNET)
    in_child(lambda: _make_lan(config))
    world_network = folder.path / "network"
    if config.uplink:
        uplink.pin_network(world_network)
    lan_sockets = [
        socket.create_server(
            (network.control_plane, API_PORT),
            family=socket.AF_INET if network.version == 4 else socket.AF_INET6,
            backlog=1024,
        )
        for network in config.networks
    ]

    def component(name: str, main: Callable[[], None]) -> Process:
        return Process(name, partial(spawn, name, main, folder.log(name)))

    processes = [
        component("apiserver", partial(_apiserver, config, folder, (api_socket, *lan_sockets))),
        component("controllers", partial(_controllers, config, folder)),
        component("scheduler", partial(_scheduler, folder)),
        *([component("loadbalancer", partial(_load_balancer, folder))] if config.has_load_balancer else ()),
        *(
            Process(name, partial(node.start, config, folder, name), faults.is_wanted(folder, name))
            for name in config.node_names
        ),
        *(
            [component("uplink", partial(uplink.connect, host_network, world_network, config.networks))]
            if config.uplink
            else ()
        ),
        Process("outside", partial(node.outside, config, folder)),
    ]
    Supervisor(processes, folder.path / "restarts.json").run()


def _make_lan(config: ClusterConfig) -> None:
    addresses = [
        network.on_lan(address)
        for network in config.networks
        for address in (network.control_plane, network.gateway)
    ]
    # An uplink's default route prevails over the last ones; the cluster's own addresses never leave it.
    anywhere = ["0.0.0.0/0" if network.version == 4 else "::/0" for network in config.networks]
    lan.make(addresses, (*config.pod_cidrs, *config.service_cidrs, *anywhere))
    # The API server reaches Pods, for `services/proxy`; a machine outside does not, through the gateway.
    lan.route_apart([each.control_plane for each in config.networks], _CONTROL_PLANE_ROUTES)
    if config.uplink:
        uplink.translate(config.networks)


def _apiserver(config: ClusterConfig, folder: StateFolder, sockets: tuple[socket.socket, ...]) -> None:
    pki = folder.pki
    options = apiserver.Options(
        sockets=sockets,
        advertise_address=config.primary.control_plane,
        advertise_port=API_PORT,
        store_path=str(folder.store),
        tls_cert=str(pki / "apiserver.crt"),
        tls_key=str(pki / "apiserver.key"),
        client_ca=str(pki / "ca.crt"),
        service_account_key=str(pki / "service-accounts.key"),
        kubelet_client_cert=str(pki / "apiserver-kubelet-client.crt"),
        kubelet_client_key=str(pki / "apiserver-kubelet-client.key"),
        kubelet_ca=str(pki / "ca.crt"),
        service_cidrs=config.service_cidrs,
    )
    run_component(lambda: apiserver.run(options))


def _controllers(config: ClusterConfig, folder: StateFolder) -> None:
    options = controllers.Options(
        kubeconfig=str(folder.component_kubeconfig("controllers")),
        cluster_cidrs=config.pod_cidrs,
        service_cidrs=config.service_cidrs,
        root_ca_file=str(folder.pki / "ca.crt"),
        local_path_nodes=str(folder.node("")),
        local_path=storage.NODE_PATH,
    )
    network_options = network.Options(
        kubeconfig=options.kubeconfig,
        node_name="",
        cluster_cidrs=config.pod_cidrs,
        table=_CONTROL_PLANE_ROUTES,
    )
    run_component(lambda: controllers.run(options), lambda: network.run(network_options))


def _load_balancer(folder: StateFolder) -> None:
    options = loadbalancer.ControllerOptions(kubeconfig=str(folder.component_kubeconfig("loadbalancer")))
    run_component(lambda: loadbalancer.run_controller(options))


def _scheduler(folder: StateFolder) -> None:
    options = scheduler.Options(kubeconfig=str(folder.component_kubeconfig("scheduler")))
    run_component(lambda: scheduler.run(options))
