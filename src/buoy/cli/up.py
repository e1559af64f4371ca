"""buoy up"""

from __future__ import annotations

import time

import click

from .failures import reported
from .main import name_option


@click.command()
@click.option("--nodes", default=1, show_default=True, help="How many nodes.")
@name_option
@click.option(
    "--ip-family", default="ipv4", show_default=True, help="Which addresses there are: ipv4, ipv6, or dual."
)
@click.option(
    "--lan", default="", help="The network the nodes are on.  [default: 192.168.1.0/24; fd00:192:168:1::/64]"
)
@click.option(
    "--pod-cidr",
    default="",
    help="Where Pods get addresses from.  [default: 10.244.0.0/16; fd00:10:244::/56]",
)
@click.option(
    "--service-cidr",
    default="",
    help="Where Services get addresses from.  [default: 10.96.0.0/12; fd00:10:96::/112]",
)
@click.option("--proxy-mode", default="iptables", show_default=True, help="What balances the packets.")
@click.option(
    "--stand-in-images",
    is_flag=True,
    help="Stand in for the tutorial's images (python:3.7, appropriate/curl, nginx:1.7.9) with images made "
    "of this machine's programs: no registry is needed.",
)
@click.option(
    "--load-balancer",
    default="",
    metavar="POOL|none",
    help="Addresses for Services of type LoadBalancer: CIDRs or ranges, with commas between them. Without, "
    "the load balancer waits for its configuration; none: there is no load balancer.",
)
@click.option("--no-uplink", is_flag=True, help="No way out of the cluster to other networks.")
def command(
    nodes: int,
    name: str,
    ip_family: str,
    lan: str,
    pod_cidr: str,
    service_cidr: str,
    proxy_mode: str,
    stand_in_images: bool,
    load_balancer: str,
    no_uplink: bool,
) -> None:
    """Start a local cluster.

    Of a dual-stack cluster, --lan, --pod-cidr and --service-cidr are two ranges with a comma between them.
    The family of the first one is that of Services that do not ask for another.
    """
    began = time.monotonic()
    with reported():
        from ..cluster import kubeconfig, lifecycle
        from ..cluster.config import ClusterConfig

        config = ClusterConfig(
            name=name,
            nodes=nodes,
            ip_family=ip_family,
            lan=lan,
            pod_cidr=pod_cidr,
            service_cidr=service_cidr,
            proxy_mode=proxy_mode,
            stand_in_images=stand_in_images,
            uplink=not no_uplink,
            load_balancer=load_balancer,
        )
        lifecycle.up(config, lambda step: click.echo(f" {time.monotonic() - began:5.2f} s  {step}"))
    option = "" if name == "buoy" else f" --name {name}"
    click.echo(
        f"""
Cluster {name!r} is up: kubectl uses the context {config.context!r} of {kubeconfig.user_file()}.

  kubectl get nodes -o wide
  buoy node exec{option} node-1 -- curl ...     as typed on a node
  buoy outside{option} -- curl ...              as typed on a machine outside the cluster
  buoy status{option}                           what runs, and what it takes
  buoy down{option}                             end it; nothing is left"""
    )
