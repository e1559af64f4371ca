import pytest

from buoy.controllers.deployment import numbers

from .objects import deployment, metadata


@pytest.mark.parametrize(
    ("value", "total", "up", "down"),
    [
        ("25%", 10, 3, 2),
        ("25%", 4, 1, 1),
        ("1%", 1, 1, 0),
        ("0%", 10, 0, 0),
        ("100%", 7, 7, 7),
        ("50%", 0, 0, 0),
        (3, 10, 3, 3),
    ],
)
def test_share_rounds_as_asked(value, total, up, down):
    assert numbers.share(value, total, round_up=True) == up
    assert numbers.share(value, total, round_up=False) == down


@pytest.mark.parametrize("value", ["3", "", "%", "x%"])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(ValueError):
        numbers.share(value, 10, round_up=True)


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (10, "25%", "25%", (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (4, 0, 0, (0, 1)),  # neither would ever move
        (4, "0%", "10%", (0, 1)),
        (2, 0, 5, (0, 2)),  # never more than there are
        (0, 1, 1, (1, 0)),
    ],
)
def test_fence_posts(replicas, surge, unavailable, expected):
    subject = deployment(replicas, surge, unavailable)
    assert (numbers.max_surge(subject), numbers.max_unavailable(subject)) == expected


def test_recreate_has_no_fence_posts():
    assert numbers.fence_posts(deployment(strategy={"type": "Recreate"})) == (0, 0)


def replica_set(name: str, size: int, maximum: int | None = None, created: str = ""):
    annotations = {numbers.MAXIMUM: str(maximum)} if maximum else {}
    more = {"creationTimestamp": created} if created else {}
    return {
        "metadata": metadata(name, annotations=annotations, **more),
        "spec": {"replicas": size},
        "status": {},
    }


@pytest.mark.parametrize(
    ("replicas", "surge", "current", "new", "expected"),
    [
        (10, 3, 10, 0, 3),  # room for the surge
        (10, 0, 10, 0, 0),  # no room: old ones must go first
        (10, 5, 0, 0, 10),  # never more than wanted
        (10, 3, 13, 3, 3),  # full
        (10, 3, 15, 5, 5),  # more than full: not to be undone here
        (10, "25%", 8, 4, 9),
    ],
)
def test_size_of_the_newest(replicas, surge, current, new, expected):
    newest = replica_set("new", new)
    others = replica_set("old", current - new)
    assert numbers.new_size(deployment(replicas, surge), [others, newest], newest) == expected


@pytest.mark.parametrize(
    ("replicas", "before", "sizes", "expected"),
    [
        (20, 10, {"a": 5, "b": 5}, {"a": 10, "b": 10}),
        (5, 10, {"a": 6, "b": 4}, {"a": 3, "b": 2}),
        (11, 10, {"a": 6, "b": 4}, {"a": 7, "b": 4}),  # what rounding leaves goes to the largest
        (0, 10, {"a": 6, "b": 4}, {"a": 0, "b": 0}),
        (10, 10, {"a": 6, "b": 4}, {"a": 6, "b": 4}),
        (6, 5, {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, {"a": 2, "b": 1, "c": 1, "d": 1, "e": 1}),
    ],
)
def test_proportions_are_kept(replicas, before, sizes, expected):
    sets = [replica_set(name, size, before) for name, size in sizes.items()]
    result = numbers.proportional(deployment(replicas, 0, 1), sets)
    assert sum(size for _, size in result) == sum(expected.values())
    found = {each["metadata"]["name"]: size for each, size in result}
    assert sorted(found.values()) == sorted(expected.values())
    if len(set(sizes.values())) > 1:
        assert found == expected


def test_of_equals_the_newer_grows_and_the_older_shrinks():
    old, new = (
        replica_set("old", 5, 10, "2026-01-01T00:00:00Z"),
        replica_set("new", 5, 10, "2026-01-02T00:00:00Z"),
    )
    grown = numbers.proportional(deployment(11, 0, 1), [old, new])
    assert [(each["metadata"]["name"], size) for each, size in grown] == [("new", 6), ("old", 5)]
    shrunk = numbers.proportional(deployment(9, 0, 1), [new, old])
    assert {each["metadata"]["name"]: size for each, size in shrunk} == {"old": 4, "new": 5}
