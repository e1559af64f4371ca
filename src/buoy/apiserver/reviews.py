"""Questions of authentication and authorization, asked by creating an object that is not kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from buoy.api.meta import Object
from buoy.api.status import bad_request

from . import negotiation
from .answers import Answer
from .attributes import Attributes, exact_fields, rule_allows
from .authentication import Authenticator, InvalidToken
from .authorization import Authorizer
from .encoding import to_json
from .nodes import node_of
from .nodes.authorizer import NO_RULES
from .registry import User
from .requestinfo import RequestInfo
from .rest import finish, method_not_allowed, read_body

Review = Callable[[web.BaseRequest, RequestInfo, User], Awaitable[Answer]]
_Question = Callable[[Object, RequestInfo, User], Awaitable[Object]]


def _user_info(user: User) -> Object:
    info: Object = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra}
    return info


class Reviews:
    def __init__(self, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._questions: dict[tuple[str, str], tuple[str, _Question]] = {
            ("authentication.k8s.io", "tokenreviews"): ("TokenReview", self._token),
            ("authentication.k8s.io", "selfsubjectreviews"): ("SelfSubjectReview", self._self),
            ("authorization.k8s.io", "selfsubjectaccessreviews"): (
                "SelfSubjectAccessReview",
                self._self_access,
            ),
            ("authorization.k8s.io", "subjectaccessreviews"): ("SubjectAccessReview", self._access),
            ("authorization.k8s.io", "localsubjectaccessreviews"): (
                "LocalSubjectAccessReview",
                self._access,
            ),
            ("authorization.k8s.io", "selfsubjectrulesreviews"): (
                "SelfSubjectRulesReview",
                self._self_rules,
            ),
        }

    def find(self, info: RequestInfo) -> Review | None:
        if info.version == "v1" and (info.group, info.resource) in self._questions:
            return self._answer
        return None

    async def _answer(self, request: web.BaseRequest, info: RequestInfo, user: User) -> Answer:
        if info.verb != "create" or info.name:
            raise method_not_allowed()
        kind, question = self._questions[info.group, info.resource]
        review = negotiation.parse_body(await read_body(request), request.headers.get("Content-Type", ""))
        if not isinstance(review, dict) or review.get("kind", kind) != kind:
            raise bad_request(f"the body is not a {kind}")
        spec = review.get("spec") or {}
        if not isinstance(spec, dict):
            raise bad_request(f'{kind} in version "v1" cannot be handled as a {kind}: spec is not an object')
        answered = {
            "kind": kind,
            "apiVersion": f"{info.group}/v1",
            "metadata": review.get("metadata") or {"creationTimestamp": None},
            "spec": spec,
            "status": await question(spec, info, user),
        }
        if kind == "SelfSubjectReview":
            del answered["spec"]
        return finish(to_json(answered), negotiation.accepted(request.headers.get("Accept", "")), 201)

    async def _self(self, spec: Object, info: RequestInfo, user: User) -> Object:
        return {"userInfo": _user_info(user)}

    async def _token(self, spec: Object, info: RequestInfo, user: User) -> Object:
        token = str(spec.get("token") or "")
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        audiences = [str(audience) for audience in spec.get("audiences") or ()]
        static = await self._authenticator.token_user(token) if not audiences else None
        if static is not None:
            return {
                "authenticated": True,
                "user": _user_info(static),
                "audiences": [self._authenticator.tokens.issuer],
            }
        try:
            found, shared = await self._authenticator.tokens.verify(token, audiences)
        except InvalidToken as error:
            return {"user": {}, "error": f"[invalid bearer token, {error}]"}
        return {"authenticated": True, "user": _user_info(found), "audiences": shared}

    async def _decide(self, user: User, spec: Object, namespace: str = "") -> Object:
        about, path = spec.get("resourceAttributes") or {}, spec.get("nonResourceAttributes") or {}
        if bool(about) == bool(path):
            raise bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
        if path:
            wanted = Attributes(str(path.get("verb", "")), path=str(path.get("path", "")))
        else:
            if namespace and about.get("namespace") != namespace:
                raise bad_request(f"spec.resourceAttributes.namespace must match namespace: {namespace}")
            wanted = Attributes(
                **{
                    field: str(about.get(field) or "")
                    for field in ("verb", "group", "resource", "subresource", "namespace", "name")
                },
                fields=_demanded(about.get("fieldSelector") or {}),
            )
        verdict = await self._authorizer.decide_now(user, wanted)
        status: Object = {"allowed": verdict.allowed}
        if verdict.reason:
            status["reason"] = verdict.reason
        return status

    async def _self_access(self, spec: Object, info: RequestInfo, user: User) -> Object:
        return await self._decide(user, spec)

    async def _access(self, spec: Object, info: RequestInfo, user: User) -> Object:
        name = str(spec.get("user") or "")
        groups = tuple(str(group) for group in spec.get("groups") or ())
        if not name and not groups:
            raise bad_request("at least one of user or group must be specified")
        return await self._decide(User(name, groups, str(spec.get("uid") or "")), spec, info.namespace)

    async def _self_rules(self, spec: Object, info: RequestInfo, user: User) -> Object:
        namespace = str(spec.get("namespace") or "")
        if not namespace:
            raise bad_request("no namespace on request")
        rules: Sequence[Object] = [rule for rule, _ in self._authorizer.rules_for(user, namespace)]
        everything = Attributes("*", "*", "*")
        if self._authorizer.decide(user, everything).allowed and not any(
            rule_allows(rule, everything) for rule in rules
        ):
            rules = [*rules, {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        is_node = node_of(user) is not None
        return {
            "resourceRules": [
                {field: rule[field] for field in _RESOURCE_RULE if rule.get(field)}
                for rule in rules
                if rule.get("resources")
            ],
            "nonResourceRules": [
                {field: rule[field] for field in ("verbs", "nonResourceURLs")}
                for rule in rules
                if rule.get("nonResourceURLs")
            ],
            "incomplete": is_node,
            **({"evaluationError": NO_RULES} if is_node else {}),
        }


def _demanded(selector: Object) -> tuple[tuple[str, str], ...]:
    """The fields whose value a review's ``fieldSelector`` demands. Raises StatusError 400."""
    raw, requirements = selector.get("rawSelector"), selector.get("requirements") or ()
    if raw and requirements:
        where = "spec.resourceAttributes.fieldSelector.rawSelector"
        raise bad_request(f"{where}: may not specified at the same time as requirements")
    if raw:
        return exact_fields(str(raw))
    return tuple(
        (str(each.get("key")), str(each["values"][0]))
        for each in requirements
        if each.get("operator") == "In" and len(each.get("values") or ()) == 1
    )


_RESOURCE_RULE = ("verbs", "apiGroups", "resources", "resourceNames")
