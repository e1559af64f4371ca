"""Who asks: client certificates, static tokens, service account tokens, or nobody."""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import math
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from multidict import CIMultiDict, CIMultiDictProxy

from buoy.api.meta import Object, parse_time
from buoy.api.resource import NODES, PODS, SERVICE_ACCOUNTS, Resource
from buoy.api.status import unauthorized

from .registry import User

ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
AUTHENTICATED = "system:authenticated"
MASTERS = "system:masters"

_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_NODE_NAME = "authentication.kubernetes.io/node-name"
_CREDENTIAL = "authentication.kubernetes.io/credential-id"
_LEEWAY = 60.0
_PROTOCOL_TOKEN = "base64url.bearer.authorization.k8s.io."  # noqa: S105


class Finder(Protocol):
    async def find(self, resource: Resource, namespace: str, name: str) -> Object | None: ...


class Bound(NamedTuple):
    """The object that a token lives and dies with."""

    kind: str
    name: str
    uid: str


class InvalidToken(Exception):
    """The argument says why; it is for logs and TokenReviews."""


@functools.lru_cache(1024)
def certificate_user(subject: tuple[tuple[tuple[str, str], ...], ...]) -> User | None:
    """The user that a verified client certificate names: CN, and the Os as groups."""
    name = ""
    groups = []
    uid = ""
    for relative in subject:
        for kind, value in relative:
            if kind == "commonName":
                name = value
            elif kind == "organizationName":
                groups.append(value)
            elif kind == "1.3.6.1.4.1.57683.2":
                uid = value
    if not name:
        return None
    return User(name, (*groups, AUTHENTICATED), uid)


def read_token_file(path: str) -> dict[str, User]:
    """A file of ``token,user,uid,"group1,group2"`` lines. Raises OSError, ValueError."""
    users: dict[str, User] = {}
    with open(path, newline="") as lines:
        for row in csv.reader(lines):
            if not row or row[0].lstrip().startswith("#"):
                continue
            if len(row) < 3:
                raise ValueError(f"{path}: a line needs token, user name and user id: {row}")
            groups = [group.strip() for group in row[3].split(",")] if len(row) > 3 else []
            users[row[0].strip()] = User(
                row[1].strip(), (*filter(None, groups), AUTHENTICATED), row[2].strip()
            )
    return users


class ServiceAccountTokens:
    """Signs and checks the tokens of service accounts (JWTs as Kubernetes makes them, KEP-1205)."""

    def __init__(self, private_key: bytes, issuer: str, finder: Finder) -> None:
        key = serialization.load_pem_private_key(private_key, None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            self._algorithm = {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]
        elif isinstance(key, rsa.RSAPrivateKey):
            self._algorithm = "RS256"
        else:
            raise ValueError("the service account key is neither an EC nor an RSA key")
        self._key = key
        self._public = key.public_key()
        der = self._public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
        self.issuer = issuer
        self._finder = finder
        self._claims = functools.lru_cache(4096)(self._decode)

    def sign(
        self,
        namespace: str,
        account: Object,
        audiences: Sequence[str],
        seconds: int,
        bound: Bound | None = None,
        node: tuple[str, str] | None = None,
    ) -> tuple[str, int]:
        """A token, and the second (Unix) at which it expires."""
        now = int(time.time())
        name, uid = account["metadata"]["name"], account["metadata"]["uid"]
        private: Object = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        if bound is not None:
            private[bound.kind.lower()] = {"name": bound.name, "uid": bound.uid}
        if node is not None:
            private["node"] = {"name": node[0], "uid": node[1]}
        claims = {
            "aud": list(audiences or (self.issuer,)),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        return jwt.encode(claims, self._key, self._algorithm, {"kid": self._key_id}), now + seconds

    def _decode(self, token: str) -> Mapping[str, Any]:
        """The claims of a token with a good signature."""
        claims: Mapping[str, Any] = jwt.decode(
            token,
            self._public,
            [self._algorithm],
            issuer=self.issuer,
            options={"verify_aud": False, "verify_exp": False, "require": ["exp", "sub", "aud"]},
        )
        return claims

    async def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]]:
        """Whose token it is, and which of *audiences* it is for. Raises InvalidToken."""
        try:
            claims = self._claims(token)
        except jwt.PyJWTError as error:
            raise InvalidToken(str(error)) from None
        if claims["exp"] <= time.time():
            raise InvalidToken("service account token has expired")
        wanted = set(audiences) or {self.issuer}
        shared = sorted(wanted & set(claims["aud"]))
        if not shared:
            raise InvalidToken(
                f"token audiences {claims['aud']} is invalid for the target audiences {wanted}"
            )
        private = claims.get("kubernetes.io") or {}
        namespace = private.get("namespace", "")
        account = private.get("serviceaccount") or {}
        await self._check(SERVICE_ACCOUNTS, namespace, account)
        extra: list[tuple[str, tuple[str, ...]]] = []
        if claims.get("jti"):
            extra.append((_CREDENTIAL, (f"JTI={claims['jti']}",)))
        if "pod" in private:
            await self._check(PODS, namespace, private["pod"])
            extra.append((_POD_NAME, (private["pod"]["name"],)))
            extra.append((_POD_UID, (private["pod"]["uid"],)))
        if "node" in private:
            if "pod" not in private:
                await self._check(NODES, "", private["node"])
            extra.append((_NODE_NAME, (private["node"]["name"],)))
        name = f"system:serviceaccount:{namespace}:{account.get('name', '')}"
        if claims["sub"] != name:
            raise InvalidToken("the subject is not the service account")
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
        return User(name, groups, account.get("uid", ""), tuple(extra)), shared

    async def _check(self, resource: Resource, namespace: str, reference: Mapping[str, str]) -> None:
        """The object that the token is bound to must be there still, and not be long overdue to go."""
        obj = await self._finder.find(resource, namespace, reference.get("name", ""))
        if (
            obj is None
            or obj["metadata"].get("uid") != reference.get("uid")
            or _overdue(obj["metadata"].get("deletionTimestamp"))
        ):
            raise InvalidToken(f"{resource.kind.lower()} {reference.get('name')} has been deleted")

    def key_set(self) -> Object:
        """The JSON Web Key Set (RFC 7517) that verifies the tokens."""
        if isinstance(self._public, ec.EllipticCurvePublicKey):
            key = jwt.algorithms.ECAlgorithm.to_jwk(self._public, as_dict=True)
        else:
            key = jwt.algorithms.RSAAlgorithm.to_jwk(self._public, as_dict=True)
        key.pop("key_ops", None)
        return {"keys": [{"use": "sig", "kid": self._key_id, "alg": self._algorithm, **key}]}

    @property
    def algorithm(self) -> str:
        return self._algorithm


class Authenticator:
    def __init__(self, static: Mapping[str, User], tokens: ServiceAccountTokens) -> None:
        self._static = static
        self.tokens = tokens

    async def authenticate(self, certificate: Mapping[str, Any] | None, headers: Mapping[str, str]) -> User:
        """The user; `ANONYMOUS` without credentials. Raises StatusError 401 for wrong ones."""
        if certificate:
            if _ends(certificate.get("notAfter", "")) < time.time():
                raise unauthorized()  # it was good when the connection was made
            user = certificate_user(certificate.get("subject", ()))
            if user is not None:
                return user
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            token = _protocol_token(headers.get("Sec-WebSocket-Protocol", ""))
            if not token:
                return ANONYMOUS
        found = await self.token_user(token)
        if found is None:
            raise unauthorized()
        return found

    async def token_user(self, token: str) -> User | None:
        user = self._static.get(token)
        if user is not None:
            return user
        try:
            return (await self.tokens.verify(token))[0]
        except InvalidToken:
            return None


@functools.lru_cache(1024)
def _ends(not_after: str) -> float:
    """Seconds since the epoch at which a certificate ends."""
    return ssl.cert_time_to_seconds(not_after) if not_after else math.inf


def _overdue(deletion: str | None) -> bool:
    """Whether an object should have been gone by *deletion*, and for longer than clocks differ."""
    return bool(deletion) and parse_time(str(deletion)).timestamp() + _LEEWAY < time.time()


def _protocol_token(header: str) -> str:
    """Browsers cannot send Authorization with a WebSocket; Kubernetes takes the token as a subprotocol."""
    for protocol in header.split(","):
        protocol = protocol.strip()
        if protocol.startswith(_PROTOCOL_TOKEN):
            text = protocol.removeprefix(_PROTOCOL_TOKEN)
            try:
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            except ValueError:
                return ""
    return ""


def without_credentials(headers: CIMultiDictProxy[str] | CIMultiDict[str]) -> CIMultiDict[str]:
    """A request's headers as they may go on to another server, which is not to know how the user is known."""
    found: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower == "sec-websocket-protocol":
            protocols = [each.strip() for each in value.split(",")]
            value = ", ".join(each for each in protocols if not each.startswith(_PROTOCOL_TOKEN))
        if lower != "authorization" and not lower.startswith("impersonate-") and value:
            found.add(name, value)
    return found
