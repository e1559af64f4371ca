"""All paths that are not resources: discovery, version, health, metrics, OpenAPI, token verification keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from buoy.api import KINDS
from buoy.api.formats import host_port
from buoy.api.status import StatusError

from . import Options, negotiation
from .answers import Answer, json_answer, text_answer
from .authentication import ServiceAccountTokens
from .discovery import Discovery
from .encoding import to_json
from .metrics import CONTENT_TYPE, Metrics
from .openapi import OpenApi
from .registry import Registry
from .requestinfo import RequestInfo
from .rest import finish, generic_not_found, method_not_allowed
from .watch import Hub

Check = Callable[[], Awaitable[str]]


class NonResource:
    def __init__(
        self, options: Options, registry: Registry, hub: Hub, tokens: ServiceAccountTokens, metrics: Metrics
    ) -> None:
        self.ready = False
        """Set when the server takes requests for good."""
        self._address = host_port(options.advertise_address, options.advertise_port)
        self._registry = registry
        self._hub = hub
        self._tokens = tokens
        self._metrics = metrics
        self._discovery = Discovery(KINDS)
        self._openapi = OpenApi(self._discovery)
        self._checks: dict[str, Check] = {
            "ping": self._ping,
            "log": self._ping,
            "store": self._store_works,
            "informer-sync": self._hub_is_current,
            "poststarthook/start-apiserver": self._is_ready,
        }

    def publish(self) -> None:
        """The registry offers other kinds than before."""
        self._discovery = Discovery(self._registry.offered)
        self._openapi.update(self._discovery)

    async def handle(self, request: web.BaseRequest, info: RequestInfo) -> Answer:
        if info.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        path = info.path.rstrip("/") or "/"
        parts = path.split("/")[1:]
        match parts:
            case [""]:
                return json_answer({"paths": self._paths()})
            case ["version"]:
                return json_answer(self._discovery.version())
            case ["healthz" | "livez" | "readyz" as kind, *check]:
                return await self._health(kind, "/".join(check), info)
            case ["metrics"]:
                return Answer(self._metrics.expose(), content_type=CONTENT_TYPE)
            case ["api" | "apis" as root]:
                return self._roots(request, root)
            case ["api", "v1"]:
                return self._document(request, self._discovery.resource_list("", "v1"))
            case ["apis", group]:
                return self._document(request, self._discovery.group(group))
            case ["apis", group, version]:
                return self._document(request, self._discovery.resource_list(group, version))
            case ["openapi", "v2"]:
                return await self._openapi.v2(request.headers.get("Accept", ""))
            case ["openapi", "v3", *rest]:
                return await self._openapi.v3("/".join(rest), info.value("hash"), request)
            case [".well-known", "openid-configuration"]:
                return json_answer(
                    {
                        "issuer": self._tokens.issuer,
                        "jwks_uri": f"https://{self._address}/openid/v1/jwks",
                        "response_types_supported": ["id_token"],
                        "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": [self._tokens.algorithm],
                    }
                )
            case ["openid", "v1", "jwks"]:
                return Answer(to_json(self._tokens.key_set()), content_type="application/jwk-set+json")
        raise generic_not_found()

    def _paths(self) -> list[str]:
        found = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"]
        for group, versions in self._discovery.groups.items():
            if group:
                found.append(f"/apis/{group}")
                found += [f"/apis/{group}/{version}" for version in versions]
        for kind in ("healthz", "livez", "readyz"):
            found.append(f"/{kind}")
            found += [f"/{kind}/{check}" for check in self._checks]
        found += ["/metrics", "/openapi/v2", "/openapi/v3", "/openapi/v3/", "/openid/v1/jwks", "/version"]
        return sorted(found)

    def _roots(self, request: web.BaseRequest, root: str) -> Answer:
        accepted = negotiation.accepted(request.headers.get("Accept", ""), discovery=True)
        core = root == "api"
        if accepted.form:
            document = self._discovery.aggregated(accepted.version, core=core)
            answer = finish(to_json(document), accepted)
            if accepted.media == "json":
                answer.content_type = (
                    f"application/json;g=apidiscovery.k8s.io;v={accepted.version};as=APIGroupDiscoveryList"
                )
            return answer
        document = self._discovery.api_versions(self._address) if core else self._discovery.group_list()
        return finish(to_json(document), accepted)

    def _document(self, request: web.BaseRequest, document: object | None) -> Answer:
        if document is None:
            raise generic_not_found()
        return finish(to_json(document), negotiation.accepted(request.headers.get("Accept", "")))

    # Health

    async def _health(self, kind: str, name: str, info: RequestInfo) -> Answer:
        if name:
            check = self._checks.get(name)
            if check is None:
                raise generic_not_found()
            fault = await check()
            if not fault:
                return text_answer("ok")
            return text_answer(f"internal server error: {fault}\n", 500)
        lines = []
        failed = False
        excluded = set(info.query.get("exclude", ()))
        for each, check in self._checks.items():
            if kind == "livez" and each == "informer-sync":
                continue
            if each in excluded:
                lines.append(f"[+]{each} excluded: ok")
                continue
            fault = await check()
            failed = failed or bool(fault)
            lines.append(f"[-]{each} failed: reason withheld" if fault else f"[+]{each} ok")
        if failed:
            return text_answer("\n".join([*lines, f"{kind} check failed\n"]), 500)
        if "verbose" in info.query:
            return text_answer("\n".join([*lines, f"{kind} check passed\n"]))
        return text_answer("ok")

    async def _ping(self) -> str:
        return ""

    async def _is_ready(self) -> str:
        return "" if self.ready else "not finished"

    async def _store_works(self) -> str:
        try:
            await self._registry.store.get("/core/namespaces/default")
        except (OSError, StatusError) as error:
            return str(error)
        return ""

    async def _hub_is_current(self) -> str:
        current = self._registry.store.revision
        if await self._hub.reached(current, 1.0):
            return ""
        return f"watches are at {self._hub.revision}, the store is at {current}"
