"""Links of what is seen through the proxy: they lead through it too, if they are on the same server. Pure.

After k8s.io/apimachinery's ``pkg/util/proxy/transport.go``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_LINKS: dict[str, frozenset[str]] = {
    "a": frozenset(("href",)),
    "applet": frozenset(("codebase",)),
    "area": frozenset(("href",)),
    "audio": frozenset(("src",)),
    "base": frozenset(("href",)),
    "blockquote": frozenset(("cite",)),
    "body": frozenset(("background",)),
    "button": frozenset(("formaction",)),
    "command": frozenset(("icon",)),
    "del": frozenset(("cite",)),
    "embed": frozenset(("src",)),
    "form": frozenset(("action",)),
    "frame": frozenset(("longdesc", "src")),
    "head": frozenset(("profile",)),
    "html": frozenset(("manifest",)),
    "iframe": frozenset(("longdesc", "src")),
    "img": frozenset(("longdesc", "src", "usemap")),
    "input": frozenset(("src", "usemap", "formaction")),
    "ins": frozenset(("cite",)),
    "link": frozenset(("href",)),
    "object": frozenset(("classid", "codebase", "data", "usemap")),
    "q": frozenset(("cite",)),
    "script": frozenset(("src",)),
    "source": frozenset(("src",)),
    "video": frozenset(("poster", "src")),
}
"""By element, the attributes whose values are links."""

_ENDS = {
    name: re.compile(f"</{name}", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp")
}
"""Elements whose content is text, whatever it looks like."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9:-]*")
_ATTRIBUTE = re.compile(
    r"""[\s/]*(?P<name>[^\s"'<>/=]+)(?:\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'<>]+)))?"""
)
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?P<host>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def through(link: str, prefix: str, hosts: frozenset[str]) -> str:
    """*link* as it leads through the proxy, whose path is *prefix*; *hosts* are names of the proxied server.

    A link to another server, or relative to its page, stays as it is.
    """
    url = _URL.fullmatch(link)
    if url is not None:
        if url["host"] not in hosts:
            return link
        link = url["rest"]
        if not link.startswith("/"):
            link = f"/{link}"
    elif _SCHEME.match(link) or not link.startswith("/"):
        return link
    path = re.split(r"[?#]", link, maxsplit=1)[0]
    return link if path == prefix or path.startswith(f"{prefix}/") else prefix + link


def rewrite(page: str, change: Callable[[str], str]) -> str:
    """An HTML page with *change* done to each link of its elements. Reads it once, from start to end."""
    parts: list[str] = []
    done = at = 0
    while (at := page.find("<", at)) >= 0:
        if page.startswith("<!--", at):
            at = page.find("-->", at + 4)
            if at < 0:
                break
            continue
        name = _NAME.match(page, at + 1)
        if name is None:
            at += 1
            continue
        element = name[0].lower()
        links = _LINKS.get(element, frozenset())
        at = name.end()
        while (attribute := _ATTRIBUTE.match(page, at)) is not None:
            at = attribute.end()
            if attribute["name"].lower() not in links:
                continue
            for form in ("double", "single", "bare"):
                if attribute[form] is not None:
                    parts += page[done : attribute.start(form)], change(attribute[form])
                    done = attribute.end(form)
        if element in _ENDS:
            end = _ENDS[element].search(page, at)
            if end is None:
                break
            at = end.start()
    parts.append(page[done:])
    return "".join(parts)
