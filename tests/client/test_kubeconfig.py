"""Kubeconfigs of every form, up to a TLS server that checks the client's certificate."""

import base64
import datetime
import ipaddress
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from buoy.api.resource import NODES
from buoy.api.status import StatusError
from buoy.client import Client, ConnectionFailed, CredentialError, KubeconfigError, credentials, kubeconfig
from buoy.client.credentials import Credential, Plugin, TokenFile

from .small_api_server import SmallApiServer, refusal


@dataclass
class Pair:
    certificate: str
    key: str


class Authority:
    """A certificate authority, for the length of a test."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key.public_key(), authority=True)

    def _sign(self, name: x509.Name, public_key: Any, *, authority: bool = False, address: str = "") -> str:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if address:
            names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("the-server")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name: str, address: str = "") -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Pair(self._sign(subject, key.public_key(), address=address), pem.decode())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("ca")


@pytest.fixture
async def server(authority: Authority, tmp_path: Path) -> AsyncIterator[SmallApiServer]:
    """Takes clients with a certificate of the authority, and tells its name in an answer."""
    pair = authority.issue("server", "127.0.0.1")
    (tmp_path / "server.pem").write_text(pair.certificate + pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.certificate)
    context.load_cert_chain(tmp_path / "server.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    server = SmallApiServer(context)
    await server.start()
    yield server
    await server.stop()


def data(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def document(cluster: dict, user: dict, **context: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", **context}}],
    }


def written(folder: Path, content: dict) -> str:
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def peer(server: SmallApiServer) -> str:
    """The common name of who made the last request, "" without a certificate."""
    subject = (server.peers[-1] or {}).get("subject", ())
    return dict(pair for (pair,) in subject).get("commonName", "")


async def greet(path: str, **options: str) -> None:
    async with Client.from_kubeconfig(path, **options) as client:
        await client.list(NODES)


async def test_everything_inline(server: SmallApiServer, authority: Authority, tmp_path: Path) -> None:
    me = authority.issue("me")
    cluster = {"server": f"{server.url}/", "certificate-authority-data": data(authority.certificate)}
    user = {"client-certificate-data": data(me.certificate), "client-key-data": data(me.key)}
    path = written(tmp_path, document(cluster, user, namespace="n"))
    await greet(path)
    assert peer(server) == "me"
    assert Client.from_kubeconfig(path).namespace == "n"
    assert Client.from_kubeconfig(path).server == server.url


async def test_everything_in_files(server: SmallApiServer, authority: Authority, tmp_path: Path) -> None:
    me = authority.issue("me")
    (tmp_path / "pki").mkdir()
    for name, text in (("ca", authority.certificate), ("me", me.certificate), ("key", me.key)):
        (tmp_path / "pki" / name).write_text(text)
    cluster = {"server": server.url, "certificate-authority": "pki/ca"}
    user = {"client-certificate": "pki/me", "client-key": str(tmp_path / "pki" / "key")}
    await greet(written(tmp_path, document(cluster, user)))
    assert peer(server) == "me"


async def test_token_and_other_context(server: SmallApiServer, authority: Authority, tmp_path: Path) -> None:
    cluster = {"server": server.url, "certificate-authority-data": data(authority.certificate)}
    content = document(cluster, {})
    content["users"].append({"name": "other", "user": {"token": "secret"}})
    content["contexts"].append({"name": "other", "context": {"cluster": "k", "user": "other"}})
    path = written(tmp_path, content)
    await greet(path, context="other")
    assert server.requests[-1].headers["Authorization"] == "Bearer secret"
    await greet(path)
    assert "Authorization" not in server.requests[-1].headers


async def test_the_server_must_be_who_it_should(
    server: SmallApiServer, authority: Authority, tmp_path: Path
) -> None:
    other = {"server": server.url, "certificate-authority-data": data(Authority("other").certificate)}
    with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
        await greet(written(tmp_path, document(other, {})))
    await greet(written(tmp_path, document({"server": server.url, "insecure-skip-tls-verify": True}, {})))
    good = {"server": server.url, "certificate-authority-data": data(authority.certificate)}
    await greet(written(tmp_path, document({**good, "tls-server-name": "the-server"}, {})))
    with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
        await greet(written(tmp_path, document({**good, "tls-server-name": "another"}, {})))


CLUSTER = {"server": "https://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read the kubeconfig"),
        ("[]", "not a kubeconfig"),
        ({"current-context": ""}, "current-context is not set"),
        ({"current-context": "x"}, 'context "x" does not exist'),
        ({**document(CLUSTER, {}), "clusters": []}, 'cluster "k" does not exist'),
        ({**document(CLUSTER, {}), "users": None}, 'user "u" does not exist'),
        (document({}, {}), 'cluster "k" has no server'),
        (document({**CLUSTER, "certificate-authority": "missing"}, {}), "certificate-authority: .*missing"),
        (document({**CLUSTER, "certificate-authority-data": "%%"}, {}), "certificate-authority: neither PEM"),
        (document(CLUSTER, {"client-certificate-data": data("x")}), "no client-key"),
        (document(CLUSTER, {"auth-provider": {"name": "gcp"}}), "auth-provider is not supported"),
    ],
)
def test_unusable(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(KubeconfigError, match=message) as error:
        kubeconfig.load(str(path))
    assert str(path) in str(error.value)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"cannot read the kubeconfig /.*nowhere"):
        kubeconfig.load(str(tmp_path / "nowhere"))


async def test_certificates_of_no_use(server: SmallApiServer, tmp_path: Path) -> None:
    user = {"client-certificate-data": data("x"), "client-key-data": data("y")}
    with pytest.raises(OSError, match="PEM"):
        await greet(written(tmp_path, document({"server": server.url}, user)))


async def test_token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    source = TokenFile(str(path))
    assert await source.get() == Credential("one")
    path.write_text("two")
    assert await source.get() == Credential("one")
    assert await source.get(refresh=True) == Credential("two")
    path.write_text("three")
    monkeypatch.setattr(credentials, "_TOKEN_FILE_SECONDS", -1)
    assert await source.get() == Credential("three")
    path.unlink()
    with pytest.raises(CredentialError, match="cannot read the token file"):
        await source.get()


async def test_a_refused_token_is_read_again(
    server: SmallApiServer, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("old")
    cluster = {"server": server.url, "certificate-authority-data": data(authority.certificate)}
    path = written(tmp_path, document(cluster, {"tokenFile": "token"}))
    async with Client.from_kubeconfig(path) as client:
        await client.list(NODES)
        (tmp_path / "token").write_text("new")
        server.refusals.append(refusal(401, "Unauthorized", "Unauthorized"))
        await client.list(NODES)
        assert [r.headers["Authorization"] for r in server.requests] == [
            "Bearer old",
            "Bearer old",
            "Bearer new",
        ]
        server.refusals += [refusal(401, "Unauthorized", "Unauthorized") for _ in range(5)]
        with pytest.raises(StatusError) as error:
            await client.list(NODES)
        assert error.value.code == 401
        assert len(server.requests) == 5


def plugin(folder: Path, body: str, **more: Any) -> Plugin:
    """A credential plugin made of some lines of Python; *folder*/runs has a line for each run."""
    program = folder / "plugin"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys, time\n"
        f"open({str(folder / 'runs')!r}, 'a').write('run\\n')\n{body}\n"
    )
    program.chmod(0o700)
    spec = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", **more}
    return Plugin(spec, {"server": "https://there"}, str(folder))


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


async def test_plugin(tmp_path: Path) -> None:
    source = plugin(
        tmp_path,
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "token = os.environ['WHO'] + sys.argv[1] + info['spec']['cluster']['server']\n"
        "print(json.dumps({'kind': 'ExecCredential', 'status': {'token': token}}))",
        args=["-x-"],
        env=[{"name": "WHO", "value": "me"}],
        provideClusterInfo=True,
    )
    assert await source.get() == Credential("me-x-https://there")
    await source.get()
    assert runs(tmp_path) == 1
    await source.get(refresh=True)
    assert runs(tmp_path) == 2


async def test_plugin_runs_again_when_its_credential_has_expired(tmp_path: Path) -> None:
    source = plugin(
        tmp_path,
        "when = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() - 10))\n"
        "print(json.dumps({'status': {'token': 't', 'expirationTimestamp': when}}))",
    )
    await source.get()
    await source.get()
    assert runs(tmp_path) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit(3)", "failed with exit code 3"),
        ("print('nonsense')", "not an ExecCredential"),
        ("print('[]')", "not an ExecCredential"),
        ("print(json.dumps({'status': {'expirationTimestamp': 'soon'}}))", "not an ExecCredential"),
        ("time.sleep(60)", "no answer within"),
    ],
)
async def test_plugin_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    monkeypatch.setattr(credentials, "_PLUGIN_SECONDS", 0.2 if "sleep" in body else 60.0)
    with pytest.raises(CredentialError, match=message):
        await plugin(tmp_path, body).get()


async def test_missing_plugin(tmp_path: Path) -> None:
    spec = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "no-such-plugin",
        "installHint": "Get it.",
    }
    with pytest.raises(CredentialError, match=r"(?s)no-such-plugin.*Get it\."):
        await Plugin(spec, {}, str(tmp_path)).get()


async def test_a_plugin_can_give_certificates(
    server: SmallApiServer, authority: Authority, tmp_path: Path
) -> None:
    pairs = [authority.issue(name) for name in ("first", "second")]
    statuses = [{"clientCertificateData": pair.certificate, "clientKeyData": pair.key} for pair in pairs]
    plugin(
        tmp_path,
        f"statuses = json.loads({json.dumps(statuses)!r})\n"
        f"done = len(open({str(tmp_path / 'runs')!r}).readlines())\n"
        "print(json.dumps({'status': statuses[done - 1]}))",
    )
    cluster = {"server": server.url, "certificate-authority-data": data(authority.certificate)}
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin"}}
    async with Client.from_kubeconfig(written(tmp_path, document(cluster, user))) as client:
        await client.list(NODES)
        assert peer(server) == "first"
        server.refusals.append(refusal(401, "Unauthorized", "Unauthorized"))
        await client.list(NODES)
        assert peer(server) == "second"


def test_in_a_pod(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("namespace", "mine"), ("ca.crt", authority.certificate), ("token", "t")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(kubeconfig, "_SERVICE_ACCOUNT", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeconfigError, match="not in a Pod"):
        Client.from_kubeconfig("")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    client = Client.from_kubeconfig("")
    assert (client.server, client.namespace) == ("https://[fd00::1]:443", "mine")
    (tmp_path / "ca.crt").unlink()
    with pytest.raises(KubeconfigError, match="service account"):
        Client.from_kubeconfig("")


def test_no_key_touches_the_disk(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = authority.issue("me")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))
    kubeconfig.parse(document(CLUSTER, {}), "/").tls(Credential("", me.certificate, me.key))
    assert os.listdir(tmp_path) == []
    assert set(os.listdir("/proc/self/fd")) == before
