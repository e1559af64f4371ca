"""Reads the console sessions of a Markdown page, and compares them with what was really written. Pure.

A fenced block ``console`` holds commands behind their prompts, each followed by its output::

    $ kubectl get pod -o wide                      the user's own shell
    [root@node-1 ~]# curl 10.244.0.2               a node's
    [root@outside ~]# curl 192.168.1.80:30001      that of a machine outside the cluster
    / # nslookup kubernetes                        a Pod's, opened by a ``$ kubectl exec -ti`` before

A page shows one real run; addresses, generated names and ages of another run differ. They are told by their
shape (`MASK`): the first time a value of the page is seen, what really stands in its place is noted, and from
then on the one stands for the other, in output and in commands. Ages, counters and the like may be anything
each time. Runs of blanks are equal, a list with commas has no order, empty lines at the end do not count, and
a line ``...`` stands for any lines.

A comment above a block says what else is allowed there:

- ``<!-- until -->``: the command is repeated until its output is this; something needs a moment to happen.
- ``<!-- any order -->``: the lines come in any order, and as often as chance will have it.
- ``<!-- any of them -->``: names and addresses may be others that were seen before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

ELIDED = "..."

_LETTERS = "[bcdfghjklmnpqrstvwxz2456789]"  # those of generated names
_NAMES = {
    "name": rf"\b[a-z][a-z0-9]*(?:-{_LETTERS}{{6,10}})?-{_LETTERS}{{5}}\b",
    "mac": r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b",
    "chain": r"\bKUBE-SEP-[A-Z2-7]{16}\b",
}
_ADDRESSES = {
    "service": r"\b10\.(?:9[6-9]|10\d|11[01])\.(?!0\.10?\b)\d+\.\d+\b",
    "pod": r"\b10\.244\.\d+\.\d+\b(?!/\d)",
    "nodeport": r"(?<=:)(?!30001|30061)3[0-2]\d{3}\b",  # those two stand in manifests
}
_ANYTHING = {
    "seconds": r"\b\d+\.\d\d s\b",
    "age": r"\b(?:\d+[dhms]){1,2}\b",
    "milliseconds": r"\b\d+ ms\b",
    "counters": r"(?m:^) *\d+[KM]? +\d+[KM]?(?= [A-Z])",
    "node": r"\bnode-\d\b",
    "neighbour": r"\b(?:REACHABLE|STALE|DELAY|PROBE)\b",
    "refusal": r"\bCould(?:n't| not) connect to server",
}
MASK = re.compile(
    "|".join(f"(?P<{kind}>{shape})" for kind, shape in (_NAMES | _ADDRESSES | _ANYTHING).items())
)

_PROMPT = re.compile(r"(\$|\[root@[\w-]+ ~\]#|/ #) (.*)")
_DIRECTIVES = re.compile(r"<!-- ((?:until|any order|any of them)(?:, (?:until|any order|any of them))*) -->")


@dataclass(frozen=True)
class Step:
    """A command and the lines of output that the page shows for it. *line*: where on the page, from 0."""

    prompt: str
    command: str
    output: tuple[str, ...]
    line: int
    directives: frozenset[str] = frozenset()


def steps(page: str) -> Iterator[Step]:
    """All commands of *page*, in order."""
    directives: frozenset[str] = frozenset()
    inside = False
    step: Step | None = None
    for number, line in enumerate(page.splitlines()):
        if inside and line.startswith("```"):
            inside = False
            if step:
                yield step
            step, directives = None, frozenset()
        elif inside:
            if found := _PROMPT.fullmatch(line):
                if step:
                    yield step
                step = Step(found[1], found[2], (), number, directives)
            elif step:
                step = replace(step, output=(*step.output, line))
            else:
                raise ValueError(f"line {number + 1}: output without a command")
        elif line == "```console":
            inside = True
        elif found := _DIRECTIVES.fullmatch(line):
            directives = frozenset(found[1].split(", "))


@dataclass(frozen=True)
class Values:
    """What really stands for each value of the page that was seen so far: one for one."""

    real: dict[str, str] = field(default_factory=dict)

    def put_into(self, text: str) -> str:
        """*text* of the page, as it is to be typed, or expected, now."""
        return MASK.sub(lambda found: self.real.get(found[0], found[0]), text)

    def noting(self, page: str, real: str) -> Values | None:
        """Values with one more; None if either stands for another already."""
        if self.real.get(page, real) != real or (page not in self.real and real in self.real.values()):
            return None
        return Values({**self.real, page: real})


@dataclass(frozen=True)
class Match:
    """The output is as the page says. *lines*: which real line each line of the page is, None for ``...``."""

    values: Values
    lines: tuple[int | None, ...]


def compare(step: Step, output: Sequence[str], values: Values) -> Match | None:
    """None if *output* is not what the page shows for *step*; else how it is, with the values noted."""
    wanted, shown = _trimmed(step.output), _trimmed(output)
    if "any of them" in step.directives:
        known = set(values.real.values())
        same = [_shape(line) for line in wanted] == [_shape(line) for line in shown]
        if not same or not all(value in known for line in shown for value in _noted(line)):
            return None
        return Match(values, tuple(range(len(wanted))))
    if "any order" in step.directives:
        wanted = _in_order(wanted, values.put_into)
        shown = _in_order(shown, str)
    return _compare(wanted, shown, 0, values)


def _trimmed(lines: Sequence[str]) -> list[str]:
    """Without empty lines at the end."""
    last = max((number for number, line in enumerate(lines, 1) if line), default=0)
    return list(lines[:last])


def _compare(wanted: list[str], shown: list[str], position: int, values: Values) -> Match | None:
    if not wanted:
        return Match(values, ()) if position == len(shown) else None
    first, rest = wanted[0], wanted[1:]
    if first == ELIDED:
        starts: Sequence[int] = range(position, len(shown) + 1)
        noted: Values | None = values
        line = None
    else:
        if position == len(shown):
            return None
        noted, line, starts = _same_line(first, shown[position], values), position, (position + 1,)
    for start in starts:
        if noted is not None and (found := _compare(rest, shown, start, noted)):
            return Match(found.values, (line, *found.lines))
    return None


def _same_line(wanted: str, shown: str, values: Values) -> Values | None:
    wanted, shown = _lists_in_order(wanted, values.put_into), _lists_in_order(shown, str)
    if _shape(wanted) != _shape(shown):
        return None
    noted: Values | None = values
    for page, real in zip(_noted(wanted), _noted(shown), strict=True):
        noted = noted and noted.noting(page, real)
    return noted


def _shape(line: str) -> str:
    """The line without its values."""
    return re.sub(r"  +", "  ", MASK.sub(lambda found: f"<{found.lastgroup}>", line)).strip()


def _noted(line: str) -> list[str]:
    """The values of a line that stay what they are from then on."""
    return [found[0] for found in MASK.finditer(line) if found.lastgroup not in _ANYTHING]


def _lists_in_order(line: str, now: Callable[[str], str]) -> str:
    return re.sub(r"\S+,\S+", lambda found: ",".join(sorted(found[0].split(","), key=now)), line)


def _in_order(lines: Sequence[str], now: Callable[[str], str]) -> list[str]:
    """Each line once, by addresses rather than by names, which are random."""

    def key(line: str) -> tuple[str, str]:
        blank = MASK.sub(lambda found: found[0] if found.lastgroup in _ADDRESSES else "", now(line))
        return blank, now(line)

    return sorted(dict.fromkeys(lines), key=key)


def renewed(page: str, ran: Sequence[tuple[Step, Sequence[str], Match | None]], values: Values) -> str:
    """*page* with the outputs of a run in the place of those it showed; what it elided stays elided."""
    lines = page.splitlines()
    outputs = {
        index for step, _, _ in ran for index in range(step.line + 1, step.line + 1 + len(step.output))
    }
    new = [[] if index in outputs else [values.put_into(line)] for index, line in enumerate(lines)]
    for step, output, match in ran:
        if match and ELIDED in step.output:
            output = [ELIDED if line is None else output[line] for line in match.lines]
        new[step.line] += [line.rstrip() for line in _trimmed(output)]
        # The blank lines between this output and what comes next are the page's own.
        new[step.line] += [""] * (len(step.output) - len(_trimmed(step.output)))
    return "\n".join(line for group in new for line in group) + "\n"
