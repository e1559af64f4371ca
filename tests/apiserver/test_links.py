"""Links of a page that is seen through the proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.apiserver.links import rewrite, through

PREFIX = "/api/v1/namespaces/n/services/web/proxy"
HOSTS = frozenset(("10.244.0.2:80", "localhost:8001"))


@pytest.mark.parametrize(
    ("link", "wanted"),
    [
        ("/", f"{PREFIX}/"),
        ("/a/b?c=d#e", f"{PREFIX}/a/b?c=d#e"),
        ("http://10.244.0.2:80/a", f"{PREFIX}/a"),
        ("https://localhost:8001", f"{PREFIX}/"),
        ("//10.244.0.2:80?x=/y", f"{PREFIX}/?x=/y"),
        (f"{PREFIX}/a", f"{PREFIX}/a"),
        (f"{PREFIX}?a", f"{PREFIX}?a"),
        (f"{PREFIX}-2/a", f"{PREFIX}{PREFIX}-2/a"),
        ("", ""),
        ("a/b", "a/b"),
        ("../a", "../a"),
        ("#part", "#part"),
        ("?query", "?query"),
        ("http://example.com/a", "http://example.com/a"),
        ("//example.com/a", "//example.com/a"),
        ("mailto:a@b", "mailto:a@b"),
        ("javascript:go('/a')", "javascript:go('/a')"),
        ("data:text/plain,/a", "data:text/plain,/a"),
    ],
)
def test_a_link(link: str, wanted: str) -> None:
    assert through(link, PREFIX, HOSTS) == wanted


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ('<a href="/x">/x</a>', '<a href="P/x">/x</a>'),
        ("<A HREF='/x' >", "<A HREF='P/x' >"),
        ("<a href=/x>", "<a href=P/x>"),
        ("<a\n title='>' href = \"/x\"/>", "<a\n title='>' href = \"P/x\"/>"),
        ('<a href="relative"><b href="/x">', '<a href="relative"><b href="/x">'),
        ('<img src="/a" alt="/b" longdesc=/c>', '<img src="P/a" alt="/b" longdesc=P/c>'),
        ('<form action="/a"><input src="/b">', '<form action="P/a"><input src="P/b">'),
        ('<!-- <a href="/x"> --><a href="/y">', '<!-- <a href="/x"> --><a href="P/y">'),
        (
            '<script src="/a">"<a href=\'/x\'>"</script><a href="/y">',
            '<script src="P/a">"<a href=\'/x\'>"</script><a href="P/y">',
        ),
        (
            '<textarea><a href="/x"></TEXTAREA><link href="/y">',
            '<textarea><a href="/x"></TEXTAREA><link href="P/y">',
        ),
        ('<!-- <a href="/x">', '<!-- <a href="/x">'),
        ('<a href="/x', '<a href="/x'),
        ("1 < 2 <a href=/x>", "1 < 2 <a href=P/x>"),
        ("<<a href=/x>", "<<a href=P/x>"),
        ("", ""),
    ],
)
def test_a_page(page: str, wanted: str) -> None:
    assert rewrite(page, lambda link: f"P{link}" if link.startswith("/") else link) == wanted


@given(st.text(alphabet="<>/!-=\"' abhrefscript", max_size=60))
def test_what_is_not_a_link_stays(page: str) -> None:
    assert rewrite(page, lambda link: link) == page


@pytest.mark.parametrize(
    "piece", ["<a b='", '<a b="c', "<", "<!--", "<a ", "<a b=", "<script>", "<a href=/x>"]
)
def test_a_page_is_read_once(piece: str) -> None:
    """A reader that began again at each element would not come to the end of this one."""
    page = piece * 300_000
    assert rewrite(page, lambda link: link) == page
