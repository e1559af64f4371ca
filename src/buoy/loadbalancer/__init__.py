"""The load balancer: addresses for Services of type LoadBalancer, and their announcement on the wire.

It does the jobs of MetalLB and OpenELB. `model` is what their configurations come to; `config` reads them, in
MetalLB's custom resources, in MetalLB's older ConfigMap and in OpenELB's custom resources, all at once;
`allocation` decides, purely, which Service has which address; `controller` ties both to the API. The speaker,
one a node, announces the addresses that Services have.
"""

from __future__ import annotations

from dataclasses import dataclass

from .layer2.interfaces import EXCLUDED


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """How to run the controller, of which a cluster has one.

    *namespace* is where MetalLB's custom resources and the ConfigMap ``config`` are. Only Services of
    *load_balancer_class* get addresses, empty for those without one. *metrics_bind* is ``host:port``, empty
    for nowhere.
    """

    kubeconfig: str
    namespace: str = "metallb-system"
    load_balancer_class: str = ""
    metrics_bind: str = "127.0.0.1:7472"


async def run_controller(options: ControllerOptions) -> None:
    """Give addresses for ever."""
    from .controller.process import run

    await run(options)


@dataclass(frozen=True, slots=True)
class SpeakerOptions:
    """How to run the speaker of one node, in the network namespace of the caller.

    It answers on the LAN by raw sockets (CAP_NET_RAW), keeps in touch with the other speakers on UDP *port*
    of the nodes' addresses, and runs FRR for BGP. *key_file* holds the key that all speakers share; without,
    it is the value ``secretkey`` of the Secret ``memberlist`` in *namespace*. Only Services of
    *load_balancer_class* are announced, empty for those without one. Interfaces whose names match
    *excluded_interfaces* are never answered on. *ignore_exclude_lb*: nodes labelled as excluded from external
    load balancers take part. *folder* is for what does not outlive the machine. *metrics_bind* is
    ``host:port``, empty for nowhere.

    Raises ValueError for values that cannot be.
    """

    kubeconfig: str
    node_name: str
    namespace: str = "metallb-system"
    load_balancer_class: str = ""
    key_file: str = ""
    port: int = 7946
    excluded_interfaces: tuple[str, ...] = EXCLUDED
    ignore_exclude_lb: bool = False
    folder: str = "/run/buoy-speaker"
    metrics_bind: str = "127.0.0.1:7472"

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"port {self.port}: must be between 1 and 65535")


async def run_speaker(options: SpeakerOptions) -> None:
    """Announce for ever; when cancelled, tell the other speakers to take over."""
    from .speaker.process import run

    await run(options)
