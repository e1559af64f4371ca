"""A real API server on loopback for tests: certificates, a store in a temporary folder, clients for it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from buoy.apiserver import Options, run

SECONDS_TO_START = 20.0


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
        certificate = self._sign(self._name, self._key, authority=True)
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if authority:
            usage = x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        else:
            names: list[x509.GeneralName] = [
                x509.DNSName("localhost"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, common_name: str, *organizations: str) -> tuple[str, str]:
        """Paths of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
        name = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        stem = self.folder / common_name.replace(":", "_")
        stem.with_suffix(".crt").write_bytes(self._sign(name, key).public_bytes(serialization.Encoding.PEM))
        stem.with_suffix(".key").write_bytes(_pem(key))
        return str(stem.with_suffix(".crt")), str(stem.with_suffix(".key"))


@dataclass
class Reply:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def message(self) -> str:
        return str(self.json.get("message"))


@dataclass
class Running:
    """A server that serves, and ways to talk to it."""

    folder: Path
    port: int
    authority: Authority
    options: Options
    kubeconfig: str = ""
    _sessions: dict[str, aiohttp.ClientSession] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def session(self, user: str = "admin", *groups: str) -> aiohttp.ClientSession:
        """A client; ``""`` is nobody."""
        found = self._sessions.get(user)
        if found is None:
            context = ssl.create_default_context(cafile=str(self.authority.certificate))
            if user:
                context.load_cert_chain(
                    *self.authority.issue(user, *(groups or (("system:masters",) if user == "admin" else ())))
                )
            found = self._sessions[user] = aiohttp.ClientSession(
                self.url, connector=aiohttp.TCPConnector(ssl=context, limit=0)
            )
        return found

    async def request(
        self, method: str, path: str, body: Any = None, *, user: str = "admin", **headers: str
    ) -> Reply:
        if body is not None and not isinstance(body, bytes):
            body = msgspec.json.encode(body)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given.setdefault("Content-Type", "application/json")
        async with self.session(user).request(method, path, data=body, headers=given) as response:
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str, **more: Any) -> Reply:
        return await self.request("GET", path, **more)

    async def post(self, path: str, body: Any, **more: Any) -> Reply:
        return await self.request("POST", path, body, **more)

    async def put(self, path: str, body: Any, **more: Any) -> Reply:
        return await self.request("PUT", path, body, **more)

    async def delete(self, path: str, body: Any = None, **more: Any) -> Reply:
        return await self.request("DELETE", path, body, **more)

    async def patch(self, path: str, body: Any, kind: str = "merge-patch+json", **more: Any) -> Reply:
        return await self.request("PATCH", path, body, Content_Type=f"application/{kind}", **more)

    async def kubectl(self, *arguments: str, stdin: str = "", code: int | None = 0) -> str:
        """Output and errors of a kubectl command, which must end with *code* (None: any)."""
        process = await asyncio.create_subprocess_exec(
            str(Path(__file__).parents[2] / ".venv/bin/kubectl"),
            *arguments,
            env={"KUBECONFIG": self.kubeconfig, "HOME": str(self.folder), "PATH": "/usr/bin:/bin"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        text = output.decode()
        assert code is None or process.returncode == code, text
        return text

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


@contextlib.asynccontextmanager
async def running(folder: Path, **changes: Any) -> AsyncIterator[Running]:
    """A server on a free port of 127.0.0.1, which ends with the block. *changes* are `Options`."""
    authority = Authority(folder) if "authority" not in changes else changes.pop("authority")
    certificate, key = authority.issue("localhost")
    kubelet_certificate, kubelet_key = authority.issue("kube-apiserver-kubelet-client", "system:masters")
    account_key = folder / "service-accounts.key"
    if not account_key.exists():
        account_key.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
    listening = socket.create_server(("127.0.0.1", changes.pop("port", 0)), backlog=1024)
    port = listening.getsockname()[1]
    settings: dict[str, Any] = {
        "sockets": (listening,),
        "advertise_address": "192.168.1.10",
        "advertise_port": 6443,
        "store_path": str(folder / "store.sqlite"),
        "tls_cert": certificate,
        "tls_key": key,
        "client_ca": str(authority.certificate),
        "service_account_key": str(account_key),
        "kubelet_client_cert": kubelet_certificate,
        "kubelet_client_key": kubelet_key,
        "kubelet_ca": str(authority.certificate),
    }
    options = Options(**{**settings, **changes})
    server = Running(folder, port, authority, options)
    server.kubeconfig = str(write_kubeconfig(server, "admin", "system:masters"))
    task = asyncio.create_task(run(options))
    try:
        async with asyncio.timeout(SECONDS_TO_START):
            waiting = asyncio.create_task(_wait(server))
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                waiting.cancel()
                await task
        yield server
    finally:
        await server.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        listening.close()


async def _wait(server: Running) -> None:
    """The socket listens already: the first answer comes when the server is there."""
    while (await server.get("/readyz")).status != 200:
        await asyncio.sleep(0.01)


def write_kubeconfig(server: Running, user: str, *groups: str) -> Path:
    certificate, key = server.authority.issue(user, *groups)
    path = server.folder / f"{user}.kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": server.url, "certificate-authority": str(server.authority.certificate)},
            }
        ],
        "users": [{"name": user, "user": {"client-certificate": certificate, "client-key": key}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path
