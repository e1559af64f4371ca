"""What to tell ``iptables-restore``, from what is there or was there to what is wanted: pure text.

Each commit is one step for packets. iptables-nft keeps the names of all chains that a commit mentions in a
sorted list which it searches from the front, and the kernel walks every chain that can be reached whenever a
commit ends. Hence many commits of a few hundred chains, chains in descending order, and the way in last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..model import Changes, Ruleset, Settings
from . import render
from .render import NAT_SERVICES, SHARED_PLACES, Place, Rendered

Tables = dict[str, dict[str, list[str]]]
"""Rules by table and chain, each without its ``-A CHAIN``."""

TABLES = ("mangle", "filter", "nat")

_COMMIT_LINES = 4000
_MOST_DELETIONS = 100

# A chain comes after those that it leads to.
_RANKS = {
    "KUBE-MAR": 0,
    "KUBE-SEP": 1,
    "KUBE-SVC": 2,
    "KUBE-SVL": 2,
    "KUBE-EXT": 3,
    "KUBE-FW-": 4,
    "KUBE-SER": 6,
}


def parse(saved: bytes) -> Tables:
    """What ``iptables-save`` printed."""
    tables: Tables = {}
    chains: dict[str, list[str]] = {}
    for line in saved.decode(errors="replace").splitlines():
        first = line[:1]
        if first == "-":
            _, chain, *rule = line.split(" ", 2)
            chains[chain].append(rule[0] if rule else "")
        elif first == ":":
            chains[line[1 : line.index(" ")]] = []
        elif first == "*":
            chains = tables.setdefault(line[1:], {})
    return tables


@dataclass(slots=True)
class TableBatch:
    """Changes to one table. *write* makes or empties chains and fills them, *drop* is for whole chains."""

    write: dict[str, list[str]] = field(default_factory=dict)
    delete: list[tuple[str, str]] = field(default_factory=list)
    insert: list[tuple[str, str]] = field(default_factory=list)
    append: list[tuple[str, str]] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        for chain in sorted(sorted(self.write, reverse=True), key=_rank):
            yield f":{chain} - [0:0]"
            for rule in self.write[chain]:
                yield f"-A {chain} {rule}"
        for chain, rule in self.delete:
            yield f"-D {chain} {rule}"
        for chain, rule in self.append:
            yield f"-A {chain} {rule}"
        for chain, rule in self.insert:
            yield f"-I {chain} {rule}"
        for chain in self.drop:
            yield f":{chain} - [0:0]"
        for chain in self.drop:
            yield f"-X {chain}"


def _rank(chain: str) -> int:
    return _RANKS.get(chain[:8], 5)


class Batch:
    """Changes to all tables, each table's in one commit."""

    def __init__(self) -> None:
        self.tables = {table: TableBatch() for table in TABLES}

    def __getitem__(self, table: str) -> TableBatch:
        return self.tables[table]

    def lines(self) -> Iterator[str]:
        for table, batch in self.tables.items():
            lines = list(batch.lines())
            if lines:
                yield f"*{table}"
                yield from lines
                yield "COMMIT"

    def add(self, place: Place, rule: str) -> None:
        """Put *rule* into a chain that Services share."""
        # In the nat table's KUBE-SERVICES node ports stay last; elsewhere order means nothing.
        batch = self[place.table]
        (batch.insert if place == NAT_SERVICES else batch.append).append((place.chain, rule))


class Script(NamedTuple):
    """What to do, and how many rules there are then (or, for changes, are more than before) by table."""

    batches: list[Batch]
    rules: Counter[str]

    def encode(self) -> bytes:
        """The input for ``iptables-restore --noflush``, empty if there is nothing to do."""
        return "".join(f"{line}\n" for batch in self.batches for line in batch.lines()).encode()


def _count(rendered: Rendered) -> Counter[str]:
    count = Counter(rule.place.table for rule in rendered.shared)
    count["nat"] += sum(map(len, rendered.chains.values()))
    return count


_NOTHING = Rendered({}, [])


def for_changes(changes: Changes, settings: Settings) -> Script:
    """From what *changes* say was there. The size is that of the changes."""
    batches = [Batch()]
    more: Counter[str] = Counter()
    lines = 0
    for old, new in changes.values():
        before = render.render(old, settings) if old else _NOTHING
        after = render.render(new, settings) if new else _NOTHING
        more.update(_count(after))
        more.subtract(_count(before))
        if lines > _COMMIT_LINES:
            batches.append(Batch())
            lines = 0
        batch = batches[-1]
        nat = batch["nat"]
        for chain, rules in after.chains.items():
            if before.chains.get(chain) != rules:
                nat.write[chain] = rules
                lines += len(rules) + 1
        gone = [chain for chain in before.chains if chain not in after.chains]
        nat.drop += gone
        had, has = dict.fromkeys(before.shared), dict.fromkeys(after.shared)
        for place, rule in had.keys() - has.keys():
            batch[place.table].delete.append((place.chain, rule))
        for place, rule in has.keys() - had.keys():
            batch.add(place, rule)
        lines += len(gone) + len(had) + len(has)
    return Script(batches, more)


def for_saved(saved: Tables, ruleset: Ruleset) -> Script:
    """From what is in the kernel. What is right already stays untouched."""
    settings = ruleset.settings
    frame, services, end = Batch(), [Batch()], Batch()
    total: Counter[str] = Counter()

    for place, rules in render.fixed_chains(settings).items():
        total[place.table] += len(rules)
        if saved.get(place.table, {}).get(place.chain) != rules:
            frame[place.table].write[place.chain] = rules
    wanted: dict[Place, list[str]] = {place: [] for place in SHARED_PLACES}
    rendered = [render.render(rules, settings) for rules in ruleset.ports.values()]
    for one in rendered:
        total.update(_count(one))
        for place, rule in dict.fromkeys(one.shared):
            wanted[place].append(rule)

    anew: set[Place] = (
        set()
    )  # shared chains that are written as a whole, once all chains they lead to are there
    existing: dict[Place, Counter[str]] = {}
    for place, rules in wanted.items():
        last = render.last_rules(settings) if place == NAT_SERVICES else []
        total[place.table] += len(last)
        there = saved.get(place.table, {}).get(place.chain)
        if there is None:
            frame[place.table].write[place.chain] = last
            there = last
        have = Counter(there)
        surplus = list((have - Counter([*rules, *last])).elements())
        if len(surplus) > _MOST_DELETIONS or there[len(there) - len(last) :] != last:
            anew.add(place)
            end[place.table].write[place.chain] = [*sorted(rules, key=_target, reverse=True), *last]
        else:
            existing[place] = have
            end[place.table].delete += [(place.chain, rule) for rule in surplus]

    nat = saved.get("nat", {})
    chains: set[str] = set()
    lines = 0
    for one in rendered:
        if lines > _COMMIT_LINES:
            services.append(Batch())
            lines = 0
        for chain, rules in one.chains.items():
            chains.add(chain)
            if nat.get(chain) != rules:
                services[-1]["nat"].write[chain] = rules
                lines += len(rules) + 1
        for place, rule in dict.fromkeys(one.shared):
            if place not in anew and rule not in existing[place]:
                services[-1].add(place, rule)
                lines += 1

    for jump in reversed(render.jumps(settings)):
        if jump.rule not in saved.get(jump.table, {}).get(jump.chain, ()):
            end[jump.table].insert.append((jump.chain, jump.rule))
    stale = [chain for chain in nat if chain.startswith(render.OWN_PREFIXES) and chain not in chains]
    return Script([frame, *services, end, *_drop(stale)], total)


def _target(rule: str) -> str:
    return rule.rpartition(" ")[2]


def _drop(stale: list[str]) -> Iterator[Batch]:
    """The ones that lead to others first."""
    ordered = sorted(stale, key=_rank, reverse=True)
    for start in range(0, len(ordered), _COMMIT_LINES // 2):
        batch = Batch()
        batch["nat"].drop = ordered[start : start + _COMMIT_LINES // 2]
        yield batch


def for_removal(saved: Tables, settings: Settings) -> Script:
    """Take away every chain that this backend makes, and the jumps to them."""
    way_in, frame = Batch(), Batch()
    for jump in render.jumps(settings):
        if jump.rule in saved.get(jump.table, {}).get(jump.chain, ()):
            way_in[jump.table].delete.append((jump.chain, jump.rule))
    for place in (*SHARED_PLACES, *render.fixed_chains(settings)):
        if place.chain in saved.get(place.table, {}):
            way_in[place.table].write[place.chain] = []
            frame[place.table].drop.append(place.chain)
    stale = [chain for chain in saved.get("nat", {}) if chain.startswith(render.OWN_PREFIXES)]
    return Script([way_in, *_drop(stale), frame], Counter())


def for_check(settings: Settings) -> bytes:
    """Input that ``iptables-restore --noflush`` accepts only while the frame of the rules stands."""
    checks: dict[str, list[str]] = {table: [] for table in TABLES}
    for jump in render.jumps(settings):
        checks[jump.table].append(f"-C {jump.chain} {jump.rule}")
    for place, rules in render.fixed_chains(settings).items():
        checks[place.table] += [f"-C {place.chain} {rule}" for rule in rules]
    checks["nat"] += [f"-C {render.SERVICES} {rule}" for rule in render.last_rules(settings)]
    blocks = (["*" + table, *lines, "COMMIT"] for table, lines in checks.items() if lines)
    return "".join(f"{line}\n" for block in blocks for line in block).encode()
