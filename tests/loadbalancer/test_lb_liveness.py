"""Speakers agree on who is there, soon after anything happens, and believe nobody without the key."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buoy.loadbalancer.election import rank, winner
from buoy.loadbalancer.liveness.detector import INTERVAL, MISSES, Detector
from buoy.loadbalancer.liveness.message import Message, decode, encode, short_id

KEY = b"k" * 32
TIMEOUT = MISSES * INTERVAL
DELAY = 0.002


class Network:
    """Detectors with clocks of one time, and links that can be cut, one direction at a time."""

    def __init__(self, names, seed=0):
        self.now = 1000.0
        self.random = random.Random(seed)
        self.names = list(names)
        self.detectors = {}
        self.cut = set()
        self.paused = set()
        self.loss = 0.0
        self.log = []
        self._due = {}
        self._inbox = {}
        self._events = []
        self._numbers = itertools.count(1)
        self._views = {}
        for name in self.names:
            self.start(name)

    def start(self, name, incarnation=None):
        detector = Detector(name, incarnation or next(self._numbers), self.now)
        detector.set_peers(self.names)
        detector.ready = True
        self.detectors[name] = detector
        self._inbox[name] = []
        self._due[name] = self.now + self.random.uniform(0, INTERVAL)

    def stop(self, name):
        del self.detectors[name]

    def leave(self, name):
        self.detectors[name].ready = False
        self.tell_all(name)
        self.stop(name)

    def partition(self, *groups):
        self.cut = {
            (a, b)
            for a in self.names
            for b in self.names
            if a != b and not any(a in group and b in group for group in groups)
        }

    def tell(self, name, peer):
        message = self.detectors[name].message(peer, self.now)
        self.log.append((peer, message))
        if (name, peer) not in self.cut and self.random.random() >= self.loss:
            delay = DELAY * self.random.uniform(0.5, 1.5)
            heapq.heappush(self._events, (self.now + delay, next(self._numbers), peer, message))

    def tell_all(self, name):
        self._due[name] = self.now + INTERVAL
        for peer in self.detectors[name].peers:
            self.tell(name, peer)

    def run(self, seconds):
        """What the transports do, for so long."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.005
            while self._events and self._events[0][0] <= self.now:
                _, _, peer, message = heapq.heappop(self._events)
                self._inbox[peer].append(message)
            for name, detector in list(self.detectors.items()):
                if name not in self.paused:
                    self._turn(name, detector)

    def _turn(self, name, detector):
        inbox, self._inbox[name] = self._inbox[name], []
        for message in inbox:
            if detector.receive(message, self.now):
                self.tell(name, message.sender)
        if self.now >= self._due[name]:
            detector.tick(self.now)
            self.tell_all(name)
        state = detector.heard(self.now), detector.view(self.now)
        if state != self._views.get(name):
            self._views[name] = state
            self.tell_all(name)

    def views(self):
        return {name: set(detector.view(self.now)) for name, detector in self.detectors.items()}

    def agree(self, *groups):
        views = self.views()
        return all(views[name] == set(group) for group in groups for name in group)

    def until(self, condition, within):
        start = self.now
        while not condition():
            assert self.now - start < within, self.views()
            self.run(0.005)
        return self.now - start


ABC = ["a", "b", "c"]


def test_all_find_each_other_at_once():
    network = Network(ABC)
    assert network.until(lambda: network.agree(ABC), INTERVAL + 5 * DELAY + 0.03) > 0


def test_a_dead_one_is_missed_in_time_and_not_before():
    network = Network(ABC)
    network.run(2)
    network.stop("a")
    assert network.until(lambda: network.agree("bc"), TIMEOUT + 0.05) >= TIMEOUT - INTERVAL - 0.02


def test_one_that_leaves_is_missed_at_once_and_comes_back():
    network = Network(ABC)
    network.run(2)
    network.leave("a")
    network.until(lambda: network.agree("bc"), 0.02)
    network.run(0.5)
    assert network.agree("bc")
    network.start("a")
    network.until(lambda: network.agree(ABC), 0.2)


def test_a_lost_link_is_no_death_as_long_as_a_third_reaches_both():
    network = Network(ABC)
    network.run(2)
    network.cut = {("a", "c"), ("c", "a")}
    for _ in range(400):
        network.run(0.005)
        assert network.agree(ABC)


def test_what_a_third_says_of_one_that_left_is_not_believed():
    network = Network(ABC)
    network.run(2)
    network.cut = {("a", "b")}  # which does not hear the goodbye, and says for a while to hear a
    network.leave("a")
    network.until(lambda: network.detectors["c"].view(network.now) == {"b", "c"}, 0.02)
    for _ in range(200):
        network.run(0.005)
        assert network.detectors["c"].view(network.now) == {"b", "c"}
    assert network.agree("bc")


def test_partition_and_healing():
    network = Network("abcde")
    network.run(2)
    network.partition("ab", "cde")
    network.until(lambda: network.agree("ab", "cde"), TIMEOUT + 0.05)
    network.run(60)
    assert network.agree("ab", "cde")
    network.cut = set()
    network.until(lambda: network.agree("abcde"), INTERVAL + 5 * DELAY + 0.03)


def test_one_cut_off_from_all_goes_on_alone():
    network = Network(ABC)
    network.run(2)
    network.partition("a", "bc")
    network.until(lambda: network.agree("a", "bc"), TIMEOUT + 0.05)


def test_both_ends_of_a_link_that_works_in_one_direction_see_it():
    network = Network("ab")
    network.run(2)
    network.cut = {("a", "b")}
    network.until(lambda: network.agree("a", "b"), 2 * TIMEOUT + 0.05)


def test_a_process_that_stood_still_suspects_nobody():
    network = Network(ABC)
    network.run(2)
    network.paused = {"a"}
    network.run(3)
    assert network.agree("bc")
    network.paused = set()
    network.run(0.005)
    assert network.detectors["a"].view(network.now) == set(ABC)
    network.until(lambda: network.agree(ABC), 0.05)


def test_when_the_whole_machine_stood_still_nobody_is_suspected():
    network = Network(ABC)
    network.run(2)
    network.now += 5
    for _ in range(100):
        network.run(0.005)
        assert network.agree(ABC)


def test_a_clock_that_was_set_back_does_not_shut_out():
    network = Network(ABC)
    network.run(2)
    network.stop("a")
    network.run(1)
    network.start("a", incarnation=-5)
    network.until(lambda: network.agree(ABC), 0.3)


def test_messages_of_a_former_life_prove_nothing():
    """What was recorded is said again, to one restarted since, when its sender is dead."""
    network = Network(ABC)
    network.run(2)
    network.stop("a")
    network.run(1)
    network.stop("b")
    network.start("b")
    network.run(0.5)
    assert network.agree("bc")
    for receiver, message in [entry for entry in network.log if entry[1].sender == "a"]:
        network.detectors["b"].receive(message, network.now)
        network.detectors["c"].receive(message, network.now)
        assert network.agree("bc"), receiver


def test_large_clusters_talk_less_often():
    detector = Detector("me", 1, 0.0)
    detector.set_peers(f"node-{number}" for number in range(1000))
    assert detector.interval == 1.0
    detector.set_peers(["a"])
    assert detector.interval == INTERVAL


def test_a_little_loss_is_no_death():
    network = Network("abcd")
    network.run(2)
    network.loss = 0.1
    for _ in range(1000):
        network.run(0.05)
        assert network.agree("abcd")


NAMES = "abcde"
ACTIONS = st.one_of(
    st.tuples(st.just("stop"), st.sampled_from(NAMES)),
    st.tuples(st.just("leave"), st.sampled_from(NAMES)),
    st.tuples(st.just("start"), st.sampled_from(NAMES)),
    st.tuples(st.just("pause"), st.sampled_from(NAMES)),
    st.tuples(st.just("go on"), st.sampled_from(NAMES)),
    st.tuples(st.just("cut"), st.permutations(NAMES).map(lambda names: tuple(names[:2]))),
    st.tuples(st.just("split"), st.integers(1, 4)),
    st.tuples(st.just("wait"), st.floats(0.005, 1.5)),
    st.tuples(st.just("lose"), st.floats(0, 0.5)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=12), st.integers(0, 1000))
def test_whatever_happened_all_soon_agree_on_one_winner(actions, seed):
    network = Network(NAMES, seed)
    for action, what in actions:
        match action:
            case "stop" | "leave" if what in network.detectors:
                getattr(network, action)(what)
            case "start" if what not in network.detectors:
                network.start(what)
            case "pause":
                network.paused.add(what)
            case "go on":
                network.paused.discard(what)
            case "cut":
                network.cut.add(what)
            case "split":
                network.partition(NAMES[:what], NAMES[what:])
            case "wait":
                network.run(what)
            case "lose":
                network.loss = what
    network.paused, network.loss = set(), 0.0
    # Links that work one way only count for nothing; what is left may be in parts.
    links = {
        (a, b)
        for a in network.detectors
        for b in network.detectors
        if a != b and (a, b) not in network.cut and (b, a) not in network.cut
    }
    network.run(3)
    views = network.views()
    for name, view in views.items():
        direct = {b for a, b in links if a == name}
        assert view == {name} | direct | {c for b, c in links if b in direct}
    # Where no two are more than two links apart, there is one winner for each address.
    parts = {frozenset(view) for view in views.values()}
    if all(views[name] == part for part in parts for name in part):
        for address in ("192.168.1.251", "192.168.1.252", "fd00::1"):
            ranking = rank(dict.fromkeys(NAMES, 0), address)
            for part in parts:
                assert sum(winner(ranking, views[name]) == name for name in part) == 1


MESSAGES = st.builds(
    Message,
    sender=st.text(min_size=1, max_size=60),
    incarnation=st.integers(0, 2**64 - 1),
    sequence=st.integers(0, 2**64 - 1),
    interval=st.integers(1, 5000).map(lambda ms: ms / 1000),
    ready=st.booleans(),
    echo=st.integers(0, 2**64 - 1),
    hears_you=st.booleans(),
    hears=st.frozensets(st.binary(min_size=4, max_size=4), max_size=20),
)


@settings(deadline=None)
@given(MESSAGES)
def test_messages_survive_the_wire(message):
    assert decode(encode(message, KEY), KEY) == message


@settings(deadline=None)
@given(MESSAGES, st.data())
def test_messages_of_others_are_none(message, data):
    told = encode(message, KEY)
    assert decode(told, b"x" * 32) is None
    at = data.draw(st.integers(0, len(told) - 1))
    assert decode(told[:at] + bytes([told[at] ^ 0x40]) + told[at + 1 :], KEY) is None
    assert decode(told[:at], KEY) is None


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_datagram_upsets_the_reader(data):
    assert decode(data, KEY) is None


def test_a_message_fits_a_packet_in_a_cluster_of_250():
    hears = frozenset(short_id(f"node-{number}.example") for number in range(250))
    message = Message("node-1.example", 2**63, 2**40, 0.25, True, 2**63, True, hears)
    assert len(encode(message, KEY)) < 1232
    assert len(encode(dataclasses.replace(message, hears=frozenset()), KEY)) < 80


@pytest.mark.parametrize("stranger", ["me", "nobody"])
def test_only_known_nodes_are_heard(stranger):
    detector = Detector("me", 7, 0.0)
    detector.set_peers(["me", "other"])
    assert not detector.receive(Message(stranger, 1, 1, 0.1, True, 7, True), 0.0)
    assert detector.heard(0.0) == frozenset()
