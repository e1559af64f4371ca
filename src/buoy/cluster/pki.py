"""Certificates, keys and kubeconfigs of a local cluster.

Every identity is a client certificate signed by the cluster's own authority, as kubeadm makes them
(https://kubernetes.io/docs/setup/best-practices/certificates/).
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..api.formats import host_port
from . import load_balancer
from .config import API_PORT, ClusterConfig
from .state import StateFolder

_LIFETIME = datetime.timedelta(days=365 * 10)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return _pem(self.key)


def write_secret(path: Path, content: bytes) -> None:
    """A file that only its owner can read, never half written."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def create(config: ClusterConfig, folder: StateFolder, api_port: int) -> None:
    """Write all certificates, keys and kubeconfigs into the state folder."""
    folder.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _authority()
    write_secret(folder.pki / "ca.crt", authority.certificate_pem)
    write_secret(folder.pki / "service-accounts.key", _pem(ec.generate_private_key(ec.SECP256R1())))

    def issue(name: str, common_name: str, organization: str = "", addresses: tuple[str, ...] = ()) -> Pair:
        pair = _issue(authority, common_name, organization, addresses)
        write_secret(folder.pki / f"{name}.crt", pair.certificate_pem)
        write_secret(folder.pki / f"{name}.key", pair.key_pem)
        return pair

    names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    issue(
        "apiserver",
        "kube-apiserver",
        addresses=(
            *names,
            "kubernetes.default.svc.cluster.local",
            "127.0.0.1",
            *(network.control_plane for network in config.networks),
            *(network.kubernetes_service for network in config.networks),
        ),
    )
    # Kubelets know it by its name. To the API server it is nobody, wherever a node says that its kubelet is.
    issue("apiserver-kubelet-client", "kube-apiserver-kubelet-client")

    lan_server = f"https://{host_port(config.primary.control_plane, API_PORT)}"
    identities = [
        ("controllers", "system:kube-controller-manager", ""),
        ("scheduler", "system:kube-scheduler", ""),
    ]
    if config.has_load_balancer:
        identities.append(("loadbalancer", load_balancer.CONTROLLER, ""))
        write_secret(folder.pki / "speakers.key", os.urandom(32))
    for node in config.node_names:
        identities += [(f"{node}.{name}", *identity) for name, identity in node_identities(config, node)]
    for name, user, group in identities:
        pair = _issue(authority, user, group)
        write_secret(
            folder.component_kubeconfig(name), _kubeconfig(config.context, lan_server, authority, user, pair)
        )
    for node in config.node_names:
        issue(f"{node}.kubelet", f"system:node:{node}", "system:nodes", (node, *config.node_addresses(node)))
    administrator = _issue(authority, "kubernetes-admin", "system:masters")
    write_secret(
        folder.kubeconfig,
        _kubeconfig(
            config.context, f"https://127.0.0.1:{api_port}", authority, config.context, administrator
        ),
    )


def node_identities(config: ClusterConfig, node: str) -> list[tuple[str, tuple[str, str]]]:
    """The components of a node that talk to the API server: who they are there (user, group).

    Each has a key of its own on each node, and no right that it does not need: who takes over a node has what
    concerns its own Pods.
    """
    found = [
        ("kubelet", (f"system:node:{node}", "system:nodes")),
        ("network", ("system:buoy-network", "")),
        ("proxy", ("system:kube-proxy", "")),
        ("dns", ("system:serviceaccount:kube-system:kube-dns", "")),
    ]
    if config.has_load_balancer:
        found.append(("speaker", (load_balancer.SPEAKER, "")))
    return found


def is_complete(config: ClusterConfig, folder: StateFolder) -> bool:
    """Whether a cluster that was made before has all the keys that it takes now; more cannot be made."""
    return all(
        folder.component_kubeconfig(f"{node}.{name}").exists()
        for node in config.node_names
        for name, _ in node_identities(config, node)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(common_name: str, organization: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority() -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("kubernetes", "")
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def _issue(
    authority: Pair, common_name: str, organization: str = "", addresses: tuple[str, ...] = ()
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if addresses:
        usages.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    builder = (
        _builder(_name(common_name, organization), authority.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )
    if addresses:
        alternatives = x509.SubjectAlternativeName([_alternative(text) for text in addresses])
        builder = builder.add_extension(alternatives, critical=False)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _alternative(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _kubeconfig(context: str, server: str, authority: Pair, user: str, pair: Pair) -> bytes:
    """A kubeconfig of one context. JSON, which is YAML."""

    def encoded(content: bytes) -> str:
        return base64.b64encode(content).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": context,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": encoded(authority.certificate_pem),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": encoded(pair.certificate_pem),
                    "client-key-data": encoded(pair.key_pem),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
        "current-context": context,
    }
    return json.dumps(document, indent=1).encode()


def set_api_port(folder: StateFolder, api_port: int) -> None:
    """Point the administrator's kubeconfig to another port of the host."""
    document = json.loads(folder.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{api_port}"
    write_secret(folder.kubeconfig, json.dumps(document, indent=1).encode())
