import dataclasses

from buoy.api.resource import PODS, REPLICA_SETS, Resource
from buoy.controllers.garbagecollector.graph import Graph, Item, Judgement, Owner, Verdict, item_of, judge

from .objects import ago, metadata

BOATS = Resource("example.com", "v1", "boats", "Boat")


def owner(uid, blocks=True):
    return Owner(uid, "apps/v1", "ReplicaSet", uid, blocks)


def item(uid, *owners, **more):
    return Item(PODS, "default", uid, uid, tuple(map(owner, owners)), **more)


def test_an_item_of_an_object():
    reference = {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "blockOwnerDeletion": True}
    obj = {"metadata": metadata("p", ownerReferences=[reference], finalizers=["foregroundDeletion"])}
    assert not item_of(PODS, obj).foreground, "it is not being deleted"
    obj["metadata"]["deletionTimestamp"] = ago(1)
    assert item_of(PODS, obj) == Item(
        PODS, "default", "p", "uid-p", (Owner("u", "v1", "X", "x", True),), terminating=True, foreground=True
    )
    obj["metadata"]["finalizers"] = ["orphan"]
    assert item_of(REPLICA_SETS, obj).orphaning


def test_whom_a_change_concerns():
    graph = Graph()
    assert graph.observe(item("rs")) == set()
    assert graph.observe(item("a", "rs")) == {"a"}
    assert graph.observe(item("a", "rs")) == set()
    assert graph.observe(item("b", "rs")) == {"b"}
    assert graph.forget("rs") == {"a", "b"}
    assert graph.forget("a") == set()
    assert [each.uid for each in graph.dependents("rs")] == ["b"]


def test_a_resource_that_is_not_served_any_more():
    graph = Graph()
    graph.observe(dataclasses.replace(item("boat"), resource=BOATS))
    graph.observe(dataclasses.replace(item("sail", "boat"), resource=BOATS))
    graph.observe(item("crew", "boat"))
    assert graph.forget_all(BOATS) == {"crew"}
    assert graph.get("sail") is None


def test_a_foreground_deletion_goes_through_its_dependents():
    graph = Graph()
    graph.observe(item("rs"))
    graph.observe(item("a", "rs"))
    assert graph.observe(item("rs", terminating=True, foreground=True)) == {"rs", "a"}
    assert [each.uid for each in graph.blocking("rs")] == ["a"]
    assert graph.forget("a") == {"rs"}
    assert graph.blocking("rs") == []


def test_a_dependent_let_go_wakes_the_owner_that_waits():
    graph = Graph()
    graph.observe(item("rs", terminating=True, foreground=True))
    graph.observe(item("a", "rs"))
    assert graph.observe(item("a")) == {"rs"}


def verdict(graph, subject, *alive):
    return judge(graph, subject, subject.owners, lambda each: each.uid in alive)


def test_verdicts():
    graph = Graph()
    graph.observe(item("rs"))
    one, two = item("one", "rs"), item("two", "rs", "gone")
    assert verdict(graph, one, "rs") == Judgement(Verdict.KEEP)
    assert verdict(graph, one) == Judgement(Verdict.DELETE)
    assert verdict(graph, two, "rs") == Judgement(Verdict.DROP_REFERENCES, frozenset({"gone"}))
    assert verdict(graph, item("none")) == Judgement(Verdict.KEEP)


def test_dependents_of_a_foreground_deletion_go_bottom_up():
    graph = Graph()
    graph.observe(item("top", terminating=True, foreground=True))
    middle, leaf = item("middle", "top"), item("leaf", "middle")
    graph.observe(middle)
    graph.observe(leaf)
    assert verdict(graph, middle, "top") == Judgement(Verdict.DELETE_FOREGROUND)
    graph.observe(item("middle", "top", terminating=True, foreground=True))
    assert verdict(graph, leaf, "middle") == Judgement(Verdict.DELETE)
    # With another owner that lives it stays, and forgets the one that goes.
    both = item("both", "top", "alive")
    assert verdict(graph, both, "top", "alive") == Judgement(Verdict.DROP_REFERENCES, frozenset({"top"}))


def test_a_circle_is_unblocked():
    graph = Graph()
    graph.observe(item("a", "b", terminating=True, foreground=True))
    graph.observe(item("b", "a"))
    assert verdict(graph, item("b", "a"), "a") == Judgement(Verdict.DELETE_FOREGROUND, unblock=True)
