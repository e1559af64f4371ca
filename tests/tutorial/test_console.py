"""How docs/tutorial.md is compared with a run: what is random may differ, nothing else."""

from __future__ import annotations

import pytest
from console import Step, Values, compare, renewed, steps

PAGE = """\
Text with `$ no command`.

```console
$ kubectl get pod
NAME      READY   AGE
web-bcdfg   1/1     5s

$ true
```

<!-- until, any order -->
```console
[root@node-1 ~]# curl 10.99.1.2:80
web-bcdfg
```
"""


def step(*output: str, **more: frozenset[str]) -> Step:
    return Step("$", "x", output, 0, **more)


def same(wanted: list[str], shown: list[str], values: Values | None = None, *directives: str) -> bool:
    known = values or Values()
    return compare(step(*wanted, directives=frozenset(directives)), shown, known) is not None


def test_commands_with_their_places_and_outputs() -> None:
    first, second, third = steps(PAGE)
    assert (first.prompt, first.command, first.line) == ("$", "kubectl get pod", 3)
    assert first.output == ("NAME      READY   AGE", "web-bcdfg   1/1     5s", "")
    assert (second.command, second.output, second.directives) == ("true", (), frozenset())
    assert (third.prompt, third.command) == ("[root@node-1 ~]#", "curl 10.99.1.2:80")
    assert third.directives == {"until", "any order"}


def test_output_needs_a_command() -> None:
    with pytest.raises(ValueError, match="line 2"):
        list(steps("```console\nlost\n```\n"))


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("a  b", "a      b"),
        ("web-bcdfg  Running  5s", "web-xzvwt  Running  2m9s"),
        ("IP: 10.99.1.2", "IP: 10.100.200.30"),
        ("8080:30586/TCP", "8080:31000/TCP"),
        ("   11   660 KUBE-MARK-MASQ  6", "    0     0 KUBE-MARK-MASQ  6"),
        ("curl: (7) port 80 after 0 ms", "curl: (7) port 80 after 201 ms"),
        ("10.244.0.2:80,10.244.1.2:80", "10.244.1.2:80,10.244.0.2:80"),
    ],
)
def test_what_may_differ(wanted: str, shown: str) -> None:
    assert same([wanted], [shown])


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("Running", "Pending"),
        ("web-bcdfg", "web"),
        ("10.96.0.1", "10.96.0.2"),
        ("192.168.1.80", "192.168.1.81"),
        ("8080/TCP", "8081/TCP"),
        ("8080:30001/TCP", "8080:30002/TCP"),
        ("30000-32767", "30000-32768"),
        ("<none>", "10.244.0.2:80"),
        ("probability 0.33333333349", "probability 0.50000000000"),
        ("10.244.0.2:80,10.244.1.2:80", "10.244.0.2:80"),
    ],
)
def test_what_may_not(wanted: str, shown: str) -> None:
    assert not same([wanted], [shown])


def test_a_value_stays_what_it_was() -> None:
    match = compare(step("IP: 10.99.1.2"), ["IP: 10.100.5.6"], Values())
    assert match
    assert match.values.put_into("curl 10.99.1.2:8080") == "curl 10.100.5.6:8080"
    assert match.values.put_into("sed s/a/10.99.1.2/") == "sed s/a/10.100.5.6/"
    assert same(["IP: 10.99.1.2"], ["IP: 10.100.5.6"], match.values)
    assert not same(["IP: 10.99.1.2"], ["IP: 10.100.7.8"], match.values)
    assert not same(["IP: 10.99.9.9"], ["IP: 10.100.5.6"], match.values), "two values for one"


def test_elided_lines() -> None:
    assert same(["a", "...", "d"], ["a", "b", "c", "d"])
    assert same(["a", "...", "d"], ["a", "d"])
    assert same(["...", "d", "..."], ["c", "d"])
    assert not same(["a", "...", "e"], ["a", "b", "c", "d"])
    assert not same(["a", "..."], ["b"])


def test_any_order() -> None:
    pods = ["web-bcdfg  10.244.0.2", "web-ghjkl  10.244.1.2"]
    shown = ["web-bbbbb  10.244.1.2", "web-ccccc  10.244.0.2"]
    match = compare(step(*pods, directives=frozenset({"any order"})), shown, Values())
    assert match
    assert match.values.put_into("web-bcdfg") == "web-ccccc"
    once, often = ["web-bcdfg", "web-ghjkl"], ["web-bbbbb", "web-bbbbb", "web-ccccc"]
    assert same(once, often, match.values, "any order")
    assert not same(once, ["web-bbbbb", "web-bbbbb"], match.values, "any order")


def test_any_of_them() -> None:
    values = Values({"web-bcdfg": "web-bbbbb", "web-ghjkl": "web-ccccc"})
    assert not same(["web-bcdfg"], ["web-ccccc"], values)
    assert same(["web-bcdfg"], ["web-ccccc"], values, "any of them")
    assert not same(["web-bcdfg"], ["web-ddddd"], values, "any of them")


def test_a_page_is_renewed_by_a_run() -> None:
    page = "IP 10.99.1.2\n```console\n$ x\nIP 10.99.1.2\n...\nz\n\n$ y 10.99.1.2\nold\n```\n"
    one, two = steps(page)
    match = compare(one, ["IP 10.100.5.6", "a", "b", "z", ""], Values())
    assert match
    assert renewed(
        page, [(one, ["IP 10.100.5.6", "a", "b", "z", ""], match), (two, ["new"], None)], match.values
    ) == ("IP 10.100.5.6\n```console\n$ x\nIP 10.100.5.6\n...\nz\n\n$ y 10.100.5.6\nnew\n```\n")
