"""Name resolution inside a Pod: its resolv.conf, its hosts file, its host name. No input or output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..api import meta
from ..api.meta import Object
from . import pod as pods

MAX_NAMESERVERS = 3
MAX_SEARCH_PATHS = 32
MAX_SEARCH_CHARACTERS = 2048
_HOST_NAME_LENGTH = 63


class Resolver(NamedTuple):
    """The content of a resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class HostNameError(ValueError):
    """The Pod cannot have the host name that it asks for."""


def parse_resolv_conf(text: str) -> Resolver:
    """Read resolv.conf(5). The last ``search`` line counts, as in the C library."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = re.split(r"[#;]", line, maxsplit=1)[0].split()
        if not words:
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            searches = tuple(w if w == "." else w.removesuffix(".") for w in words[1:])
        elif words[0] == "options":
            options += words[1:]
    return Resolver(tuple(servers), searches, tuple(options))


def pod_resolver(
    pod: Object, host: Resolver, cluster_dns: Sequence[str], cluster_domain: str
) -> tuple[Resolver, tuple[str, ...]]:
    """The Pod's resolv.conf by its ``dnsPolicy`` and ``dnsConfig``; warnings about what was left out."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    warnings: list[str] = []
    if policy == "ClusterFirst" and pods.host_network(pod):
        policy = "Default"
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet") and not cluster_dns:
        warnings.append(
            "kubelet does not have ClusterDNS IP configured and cannot create Pod using "
            f'"{policy}" policy. Falling back to "Default" policy.'
        )
        policy = "Default"
    if policy == "None":
        base = Resolver()
    elif policy == "Default":
        base = host
    else:
        searches: tuple[str, ...] = ()
        if cluster_domain:
            searches = (
                f"{meta.namespace(pod)}.svc.{cluster_domain}",
                f"svc.{cluster_domain}",
                cluster_domain,
            )
        base = Resolver(tuple(cluster_dns), (*searches, *host.searches), ("ndots:5",))
    config = spec.get("dnsConfig") or {}
    merged = Resolver(
        _unique((*base.servers, *(config.get("nameservers") or ()))),
        _unique((*base.searches, *(config.get("searches") or ()))),
        _merge_options(base.options, config.get("options") or ()),
    )
    return _limit(merged, warnings), tuple(warnings)


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _merge_options(base: Sequence[str], more: Iterable[Object]) -> tuple[str, ...]:
    options: dict[str, str] = {}
    for option in base:
        name, _, value = option.partition(":")
        options[name] = value
    for entry in more:
        options[entry["name"]] = entry.get("value") or ""
    return tuple(f"{name}:{value}" if value else name for name, value in options.items())


def _limit(resolver: Resolver, warnings: list[str]) -> Resolver:
    servers, searches = resolver.servers, resolver.searches
    if len(servers) > MAX_NAMESERVERS:
        servers = servers[:MAX_NAMESERVERS]
        warnings.append(
            "Nameserver limits were exceeded, some nameservers have been omitted, "
            f"the applied nameserver line is: {' '.join(servers)}"
        )
    shortened = searches[:MAX_SEARCH_PATHS]
    while shortened and len(" ".join(shortened)) > MAX_SEARCH_CHARACTERS:
        shortened = shortened[:-1]
    if shortened != searches:
        warnings.append(
            "Search Line limits were exceeded, some search paths have been omitted, "
            f"the applied search line is: {' '.join(shortened)}"
        )
    return Resolver(servers, shortened, resolver.options)


def host_name(pod: Object, cluster_domain: str) -> tuple[str, str]:
    """``(hostname, domain)`` of the Pod; domain ``""`` without a subdomain. Raises HostNameError."""
    spec = pod["spec"]
    if spec.get("hostnameOverride"):
        return str(spec["hostnameOverride"]), ""
    name = spec.get("hostname") or meta.name(pod)
    if not spec.get("hostname") and len(name) > _HOST_NAME_LENGTH:
        name = name[:_HOST_NAME_LENGTH].rstrip("-.")
    subdomain = spec.get("subdomain")
    domain = f"{subdomain}.{meta.namespace(pod)}.svc.{cluster_domain}" if subdomain else ""
    return name, domain


def sandbox_host_name(pod: Object, cluster_domain: str) -> str:
    """What ``hostname`` says in the Pod; empty on the node's network, where it is the node's name."""
    if pods.host_network(pod) and not pod["spec"].get("hostnameOverride"):
        return ""
    name, domain = host_name(pod, cluster_domain)
    if not pod["spec"].get("setHostnameAsFQDN") or not domain:
        return name
    full = f"{name}.{domain}"
    if len(full) > 64:
        raise HostNameError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"(64 characters is the max, {len(full)} characters requested)"
        )
    return full


def hosts_file(pod: Object, pod_ips: Sequence[str], cluster_domain: str, node_hosts: str) -> str:
    """The content of the Pod's /etc/hosts; *node_hosts*: the node's own, for a Pod on its network."""
    aliases = pod["spec"].get("hostAliases") or ()
    if pods.host_network(pod):
        text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts
    else:
        lines = [
            "# Kubernetes-managed hosts file.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::\tip6-localnet",
            "fe00::\tip6-mcastprefix",
            "fe00::1\tip6-allnodes",
            "fe00::2\tip6-allrouters",
        ]
        name, domain = host_name(pod, cluster_domain)
        for ip in pod_ips:
            lines.append(f"{ip}\t{name}.{domain}\t{name}" if domain else f"{ip}\t{name}")
        text = "\n".join(lines) + "\n"
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            text += f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()) + "\n"
    return text
