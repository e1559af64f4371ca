"""Subresources that are more than a part of their object: scale, binding, eviction, token, log, …"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from buoy.api import meta, selectors
from buoy.api.kind import Scale
from buoy.api.meta import Object
from buoy.api.pod_validation import validate_ephemeral_update
from buoy.api.resource import NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS, SERVICES
from buoy.api.schema import struct_of
from buoy.api.status import (
    FieldError,
    StatusError,
    bad_request,
    conflict,
    invalid,
    invalid_object,
    not_found,
    required,
)
from buoy.store import Record

from . import negotiation
from .answers import Answer, Streamed
from .authentication import Bound, ServiceAccountTokens
from .encoding import to_json
from .kubelets import Kubelets, dial_error, proxied_error
from .proxying import Proxying
from .registry import Registry
from .rest import (
    Call,
    Rest,
    Result,
    delete_options,
    finish,
    method_not_allowed,
    on_close,
    read_body,
)
from .streaming import container_of

_SHORTEST_TOKEN = 600
_LONGEST_TOKEN = 1 << 32
_DEFAULT_TOKEN = 3600
_LOG_OPTIONS = (
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
)


class Subresources:
    def __init__(
        self,
        registry: Registry,
        rest: Rest,
        tokens: ServiceAccountTokens,
        kubelets: Kubelets,
        proxying: Proxying,
    ) -> None:
        self._registry = registry
        self._rest = rest
        self._tokens = tokens
        self._kubelets = kubelets
        self._proxying = proxying

    def install(self) -> None:
        handlers = self._rest.subresources
        handlers[PODS, "binding"] = self._bind
        handlers[PODS, "eviction"] = self._evict
        handlers[PODS, "ephemeralcontainers"] = self._ephemeral_containers
        handlers[PODS, "log"] = self._log
        handlers[NAMESPACES, "finalize"] = self._finalize
        handlers[SERVICE_ACCOUNTS, "token"] = self._token
        for resource in (PODS, SERVICES, NODES):
            handlers[resource, "proxy"] = self._proxying.handle
        self._rest.scale = self._scale

    # scale

    async def _scale(self, call: Call) -> Result:
        scale = call.served.kind.scale
        assert scale is not None
        registry, info = self._registry, call.info
        if info.verb == "get":
            record = await registry.get(call.served, info.namespace, info.name)
            obj = call.served.seen(registry.decoded.get(record))
            if call.served.kind.custom and _walk(obj, scale.spec_replicas) is None:
                fault = f'the spec replicas field "{scale.spec_replicas}" does not exist'
                raise StatusError(500, "InternalError", f"Internal error occurred: {fault}")
            return self._scale_answer(call, record, scale)
        write = call.write("scale")
        body = await read_body(call.request)
        if info.verb == "update":
            wanted = negotiation.parse_body(body, call.request.headers.get("Content-Type", ""))
            if not isinstance(wanted, dict):
                raise bad_request("the body is not a Scale")
            mutate = _scaler(scale, lambda _: wanted)
        elif info.verb == "patch":
            apply = self._rest.patcher(call, body, write, struct_of(_scale_model()))
            mutate = _scaler(scale, apply)
        else:
            raise method_not_allowed()
        record = await registry.change(call.served, info.namespace, info.name, mutate, write)
        return self._scale_answer(call, record, scale)

    def _scale_answer(self, call: Call, record: Record, scale: Scale) -> Answer:
        obj = _scale_of(call.served.seen(self._registry.decoded.get(record)), scale)
        obj["metadata"]["resourceVersion"] = str(record.revision)
        return finish(to_json(obj), negotiation.accepted(call.request.headers.get("Accept", "")))

    # pods

    async def _bind(self, call: Call) -> Result:
        if call.info.verb != "create":
            raise method_not_allowed()
        write = call.write("binding")
        name = call.info.name
        binding = negotiation.parse_body(
            await read_body(call.request), call.request.headers.get("Content-Type", "")
        )
        if not isinstance(binding, dict):
            raise bad_request("the body is not a Binding")
        target = binding.get("target") or {}
        if target.get("kind") not in ("", None, "Node"):
            fault = f'Unsupported value: "{target.get("kind")}": supported values: "Node", "<empty>"'
            raise StatusError(422, "Invalid", f'Binding "{name}" is invalid: target.kind: {fault}')
        if not target.get("name"):
            raise invalid_object("", "Binding", name, [required("target.name")])
        metadata = binding.get("metadata") or {}

        def assign(pod: Object) -> Object:
            spec = pod["spec"]
            if metadata.get("uid") and metadata["uid"] != pod["metadata"]["uid"]:
                raise _binding_conflict(
                    name,
                    f"Precondition failed: UID in precondition: {metadata['uid']}, "
                    f"UID in object meta: {pod['metadata']['uid']}",
                )
            if meta.is_terminating(pod):
                raise _binding_conflict(name, f"pod {name} is being deleted, cannot be assigned to a host")
            if spec.get("nodeName"):
                raise _binding_conflict(name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
            if spec.get("schedulingGates"):
                raise _binding_conflict(name, f"pod {name} has non-empty .spec.schedulingGates")
            spec["nodeName"] = target["name"]
            if metadata.get("annotations"):
                pod["metadata"]["annotations"] = {**meta.annotations(pod), **metadata["annotations"]}
            status = pod.setdefault("status", {})
            conditions = [
                condition
                for condition in status.get("conditions") or ()
                if condition.get("type") != "PodScheduled"
            ]
            scheduled: Object = {
                "type": "PodScheduled",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": meta.now(),
            }
            if pod["metadata"].get("generation"):
                scheduled["observedGeneration"] = pod["metadata"]["generation"]
            status["conditions"] = [*conditions, scheduled]
            status.pop("nominatedNodeName", None)
            return pod

        await self._registry.change(call.served, call.info.namespace, name, assign, write)
        return _success(call, 201)

    async def _evict(self, call: Call) -> Result:
        if call.info.verb != "create":
            raise method_not_allowed()
        write = call.write("eviction")
        eviction = negotiation.parse_body(
            await read_body(call.request), call.request.headers.get("Content-Type", "")
        )
        if not isinstance(eviction, dict):
            raise bad_request("the body is not an Eviction")
        name = (eviction.get("metadata") or {}).get("name")
        if name and name != call.info.name:
            raise bad_request(
                f"name in URL does not match name in Eviction object: {call.info.name} vs {name}"
            )
        options = delete_options(eviction.get("deleteOptions") or {}, call.info, write)
        await self._registry.delete(call.served, call.info.namespace, call.info.name, options, write)
        return _success(call, 201)

    async def _ephemeral_containers(self, call: Call) -> Result:
        """Containers for looking into a running Pod: they can be added and nothing else (KEP-277)."""
        served, info = call.served, call.info
        if info.verb == "get":
            return self._rest.one(call, await self._registry.get(served, info.namespace, info.name))
        write = call.write("ephemeralcontainers")
        body = await read_body(call.request)
        change: Callable[[Object], Object]
        if info.verb == "update":
            wanted = await self._rest.decode(call, body, write)
            change = lambda _: wanted  # noqa: E731
        elif info.verb == "patch":
            change = self._rest.patcher(call, body, write)
        else:
            raise method_not_allowed()

        def mutate(pod: Object) -> Object:
            old = copy.deepcopy(pod)
            asked = change(pod)
            containers = (asked.get("spec") or {}).get("ephemeralContainers")
            metadata = {**old["metadata"], **_version_of(asked)}
            new = {**old, "metadata": metadata, "spec": {**old["spec"], "ephemeralContainers": containers}}
            served.kind.default(new)
            errors = validate_ephemeral_update(new, old)
            if errors:
                raise invalid_object("", "Pod", info.name, errors)
            return new

        record = await self._registry.change(served, info.namespace, info.name, mutate, write)
        return self._rest.one(call, record, warnings=write.warnings)

    async def _log(self, call: Call) -> Result:
        info = call.info
        if info.verb != "get":
            raise method_not_allowed()
        pod = await self._registry.find(PODS, info.namespace, info.name)
        if pod is None:
            raise not_found(PODS, info.name)
        _check_log_options(call)
        container = container_of(pod, info.value("container"))
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            return Answer(b"", content_type="text/plain")
        query = [(option, info.value(option)) for option in _LOG_OPTIONS if info.value(option)]
        url = await self._kubelets.url(
            node, f"/containerLogs/{info.namespace}/{info.name}/{container}", urlencode(query)
        )
        return await self._pass_on(call, url, "pods", info.name)

    # others

    async def _finalize(self, call: Call) -> Result:
        if call.info.verb != "update":
            raise method_not_allowed()
        write = call.write("finalize")
        body = await read_body(call.request)
        sent = await self._rest.decode(call, body, write)
        finalizers = (sent.get("spec") or {}).get("finalizers") or []
        version = str(sent["metadata"].get("resourceVersion") or "") if "metadata" in sent else ""

        def finalize(namespace: Object) -> Object:
            spec = {**(namespace.get("spec") or {}), "finalizers": finalizers}
            if not finalizers:
                del spec["finalizers"]
            namespace["spec"] = spec
            return namespace

        record = await self._registry.change(
            call.served, "", call.info.name, finalize, write, version=version
        )
        return self._rest.one(call, record)

    async def _token(self, call: Call) -> Result:
        if call.info.verb != "create":
            raise method_not_allowed()
        info = call.info
        account = await self._registry.find(SERVICE_ACCOUNTS, info.namespace, info.name)
        if account is None:
            raise not_found(SERVICE_ACCOUNTS, info.name)
        body = await read_body(call.request)
        request = negotiation.parse_body(body, call.request.headers.get("Content-Type", "")) if body else {}
        if not isinstance(request, dict):
            raise bad_request("the body is not a TokenRequest")
        spec = request.get("spec") or {}
        if not isinstance(spec, dict) or not isinstance(spec.get("boundObjectRef") or {}, dict):
            raise bad_request('TokenRequest in version "v1" cannot be handled as a TokenRequest')
        seconds = spec.get("expirationSeconds")
        seconds = _DEFAULT_TOKEN if seconds is None else seconds
        faults = []
        if not isinstance(seconds, int) or seconds < _SHORTEST_TOKEN:
            faults.append(
                invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
            )
        elif seconds > _LONGEST_TOKEN:
            faults.append(
                invalid(
                    "spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"
                )
            )
        if faults:
            raise invalid_object("authentication.k8s.io", "TokenRequest", "", faults)
        if self._registry.admission is not None:
            await self._registry.admission.admit_token(info.namespace, info.name, spec, call.user)
        bound, node = await self._bound(spec.get("boundObjectRef"), info.namespace, info.name)
        audiences = [str(audience) for audience in spec.get("audiences") or ()] or [self._tokens.issuer]
        token, expires = self._tokens.sign(info.namespace, account, audiences, seconds, bound, node)
        expiry = meta.format_time(datetime.fromtimestamp(expires, UTC))
        answered: Object = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": info.name, "namespace": info.namespace, "creationTimestamp": meta.now()},
            "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": expiry},
        }
        return finish(to_json(answered), negotiation.accepted(call.request.headers.get("Accept", "")), 201)

    async def _bound(
        self, reference: Object | None, namespace: str, account: str
    ) -> tuple[Bound | None, tuple[str, str] | None]:
        """What the token is bound to, and the node of a bound Pod. Raises StatusError."""
        if not reference:
            return None, None
        kind, name = str(reference.get("kind")), str(reference.get("name"))
        if kind not in ("Pod", "Node"):
            raise bad_request(
                f"cannot bind token to object of type {reference.get('apiVersion', '')}, Kind={kind}"
            )
        resource = PODS if kind == "Pod" else NODES
        obj = await self._registry.find(resource, namespace if kind == "Pod" else "", name)
        if obj is None:
            raise not_found(resource, name)
        uid = obj["metadata"]["uid"]
        if reference.get("uid") and reference["uid"] != uid:
            raise conflict(
                resource,
                name,
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in "
                "record. The object might have been deleted and then recreated",
            )
        if kind == "Node":
            return Bound(kind, name, uid), None
        if (obj["spec"].get("serviceAccountName") or "default") != account:
            raise bad_request(
                f'cannot bind token for serviceaccount "{account}" to pod running with different '
                "serviceaccount name."
            )
        node_name = obj["spec"].get("nodeName")
        node = await self._registry.find(NODES, "", node_name) if node_name else None
        return Bound(kind, name, uid), (node_name, node["metadata"]["uid"]) if node else None

    async def _pass_on(self, call: Call, url: str, resource: str, name: str) -> Result:
        """Answer with what a kubelet answers, as it comes; its refusals become Status objects."""
        try:
            # A node must not send the API server elsewhere.
            upstream = await self._kubelets.session.get(url, allow_redirects=False)
        except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, TimeoutError) as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            host, _, port = url.split("/")[2].rpartition(":")
            raise dial_error(host, int(port), cause) from None
        async with upstream:
            if upstream.status != 200:
                raise proxied_error(upstream.status, (await upstream.text()).strip(), resource, name)
            on_close(call.request, upstream.close)
            response = web.StreamResponse(
                status=upstream.status,
                headers={"Content-Type": upstream.headers.get("Content-Type", "text/plain")},
            )
            response.enable_chunked_encoding()
            await response.prepare(call.request)
            try:
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
            except aiohttp.ClientError as error:
                # Either end has gone. The client sees a response that ends too early, which is the truth.
                raise ConnectionResetError(str(error)) from None
            await response.write_eof()
            return Streamed(bool(response.keep_alive), upstream.status)


def _scale_model() -> type:
    from lightkube.models import autoscaling_v1

    from buoy.api import models  # noqa: F401  (makes lightkube's modules importable)

    model: type = autoscaling_v1.Scale
    return model


def _walk(obj: Object, path: str) -> object:
    value: object = obj
    for part in path.strip(".").split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _scale_of(obj: Object, scale: Scale) -> Object:
    selector = _walk(obj, scale.selector) if scale.selector else None
    metadata = obj["metadata"]
    status: Object = {"replicas": _walk(obj, scale.status_replicas) or 0}
    if isinstance(selector, dict):
        status["selector"] = str(selectors.from_object(selector))
    elif isinstance(selector, str) and selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            field: metadata[field]
            for field in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if field in metadata
        },
        "spec": {"replicas": _walk(obj, scale.spec_replicas) or 0},
        "status": status,
    }


def _scaler(scale: Scale, change: Callable[[Object], Object]) -> Callable[[Object], Object]:
    """The function that makes an object of the scale that *change* makes of its scale."""

    def mutate(obj: Object) -> Object:
        wanted = change(_scale_of(obj, scale))
        name = obj["metadata"]["name"]
        replicas = (wanted.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise bad_request(
                f'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal {replicas!r} '
                "into Go struct field ScaleSpec.spec.replicas of type int32"
            )
        if replicas < 0:
            fault = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise invalid_object("autoscaling", "Scale", name, [fault])
        given = wanted.get("metadata") or {}
        if given.get("uid") and given["uid"] != obj["metadata"]["uid"]:
            raise conflict(
                PODS,
                name,
                f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: "
                f"{obj['metadata']['uid']}",
            )
        *parents, last = scale.spec_replicas.strip(".").split(".")
        target = obj
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = replicas
        if given.get("resourceVersion"):
            obj["metadata"]["resourceVersion"] = given["resourceVersion"]
        return obj

    return mutate


def _binding_conflict(name: str, detail: str) -> StatusError:
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on pods/binding "{name}": {detail}',
        {"name": name, "kind": "pods/binding"},
    )


def _success(call: Call, code: int) -> Answer:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}
    return finish(to_json(status), negotiation.accepted(call.request.headers.get("Accept", "")), code)


def _version_of(obj: Object) -> Object:
    """The version that a change is meant for, if it says so."""
    version = (obj.get("metadata") or {}).get("resourceVersion")
    return {"resourceVersion": version} if version else {}


def _check_log_options(call: Call) -> None:
    info = call.info
    faults = []
    for option, lowest in (("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)):
        text = info.value(option)
        if not text:
            continue
        try:
            number = int(text)
        except ValueError:
            raise bad_request(
                f'unable to decode query parameters: strconv.ParseInt: parsing "{text}": invalid syntax'
            ) from None
        if number < lowest:
            faults.append(
                invalid(option, number, f"must be greater than {'or equal to 0' if lowest == 0 else '0'}")
            )
    if info.value("sinceSeconds") and info.value("sinceTime"):
        faults.append(
            FieldError(
                "FieldValueForbidden",
                "",
                "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
            )
        )
    if faults:
        raise invalid_object("", "PodLogOptions", info.name, faults)
