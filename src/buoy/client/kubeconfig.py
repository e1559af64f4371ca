"""Where the server is and how to prove who one is: kubeconfig files and the Pod's service account.

The format is that of client-go's ``clientcmd/api/v1``.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..api.formats import host_port
from .credentials import Credential, CredentialSource, Fixed, Plugin, TokenFile

_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class KubeconfigError(ValueError):
    """The kubeconfig cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Access:
    """How to reach one API server.

    *server* is a URL without a trailing slash; *ca* is PEM, "" for the system's own.
    """

    server: str
    credentials: CredentialSource
    ca: str = ""
    verify: bool = True
    server_name: str = ""
    proxy: str = ""
    namespace: str = "default"

    def tls(self, credential: Credential) -> ssl.SSLContext:
        """The TLS side of *credential*. OSError if the certificates are not usable."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.ca:
            context.load_verify_locations(cadata=self.ca)
        else:
            context.load_default_certs()
        if credential.certificate:
            _load_pair(context, credential.certificate, credential.key)
        return context


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # OpenSSL wants a path; memory behind a descriptor keeps the key off every disk.
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, f"{certificate}\n{key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def in_cluster() -> Access:
    """The access that every Pod is given through its service account. KubeconfigError outside a Pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise KubeconfigError(
            "no kubeconfig given, and not in a Pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT "
            "must be defined"
        )
    try:
        with open(f"{_SERVICE_ACCOUNT}/namespace", encoding="utf-8") as file:
            namespace = file.read().strip()
        with open(f"{_SERVICE_ACCOUNT}/ca.crt", encoding="ascii") as file:
            ca = file.read()
    except OSError as error:
        raise KubeconfigError(f"cannot read this Pod's service account: {error}") from error
    return Access(
        server=f"https://{host_port(host, port)}",
        credentials=TokenFile(f"{_SERVICE_ACCOUNT}/token"),
        ca=ca,
        namespace=namespace,
    )


def load(path: str, context: str | None = None) -> Access:
    """Read the kubeconfig at *path*, its current context or the one named. KubeconfigError if that fails."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise KubeconfigError(f"cannot read the kubeconfig {path}: {error}") from error
    try:
        return parse(_decode(text), os.path.dirname(os.path.abspath(path)), context)
    except KubeconfigError as error:
        raise KubeconfigError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise KubeconfigError(f"{path}: not a kubeconfig: {error!r}") from error


def _decode(text: bytes) -> Any:
    """JSON is YAML too, and a component that is given JSON does without PyYAML: 20 ms and 0.3 MiB."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.YAMLError as error:
        raise KubeconfigError(f"cannot read the kubeconfig: {error}") from error


def parse(document: Mapping[str, Any], directory: str, context: str | None = None) -> Access:
    """The access that a decoded kubeconfig describes; *directory* is what its relative paths start from."""
    wanted = context or document.get("current-context")
    if not wanted:
        raise KubeconfigError("current-context is not set")
    chosen = _named(document, "context", wanted)
    cluster = _named(document, "cluster", chosen["cluster"])
    user = _named(document, "user", chosen["user"]) if chosen.get("user") else {}
    server = cluster.get("server")
    if not server:
        raise KubeconfigError(f'cluster "{chosen["cluster"]}" has no server')
    return Access(
        server=str(server).rstrip("/"),
        credentials=_credentials(user, cluster, directory),
        ca=_pem(cluster, "certificate-authority", directory),
        verify=not cluster.get("insecure-skip-tls-verify"),
        server_name=cluster.get("tls-server-name") or "",
        proxy=cluster.get("proxy-url") or "",
        namespace=chosen.get("namespace") or "default",
    )


def _named(document: Mapping[str, Any], what: str, name: str) -> Mapping[str, Any]:
    for entry in document.get(f"{what}s") or ():
        if entry.get("name") == name:
            found: Mapping[str, Any] = entry.get(what) or {}
            return found
    raise KubeconfigError(f'{what} "{name}" does not exist')


def _credentials(user: Mapping[str, Any], cluster: Mapping[str, Any], directory: str) -> CredentialSource:
    certificate = _pem(user, "client-certificate", directory)
    key = _pem(user, "client-key", directory)
    if certificate and not key:
        raise KubeconfigError("the user has a client-certificate but no client-key")
    if user.get("exec"):
        return Plugin(user["exec"], cluster, directory)
    if user.get("tokenFile"):
        return TokenFile(os.path.join(directory, user["tokenFile"]), certificate, key)
    if user.get("auth-provider"):
        raise KubeconfigError("auth-provider is not supported, nor is it by Kubernetes since 1.26; use exec")
    return Fixed(Credential(user.get("token") or "", certificate, key))


def _pem(section: Mapping[str, Any], field: str, directory: str) -> str:
    """The PEM text of *field*, given inline (base64 in ``field-data``, which wins) or as a file."""
    try:
        if data := section.get(f"{field}-data"):
            return base64.b64decode(data, validate=True).decode("ascii")
        if path := section.get(field):
            with open(os.path.join(directory, path), encoding="ascii") as file:
                return file.read()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise KubeconfigError(f"{field}: neither PEM nor base64 of it: {error}") from error
    except OSError as error:
        raise KubeconfigError(f"{field}: {error}") from error
    return ""
