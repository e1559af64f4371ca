from buoy.api.status import StatusError
from buoy.controllers import Options
from buoy.controllers.namespace import Content, conditions, is_active, is_namespace_terminating
from buoy.controllers.rootca import desired

from .objects import metadata


def by_type(content, current=()):
    return {each["type"]: each for each in conditions(content, current)}


def test_what_remains_is_said():
    found = by_type(Content({"pods.": 2, "configmaps.": 1}, {"example.com/hold": 1}))
    remaining = found["NamespaceContentRemaining"]
    assert (remaining["status"], remaining["reason"]) == ("True", "SomeResourcesRemain")
    assert remaining["message"] == (
        "Some resources are remaining: configmaps. has 1 resource instances, pods. has 2 resource instances"
    )
    assert found["NamespaceFinalizersRemaining"]["message"] == (
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    )
    assert found["NamespaceDeletionDiscoveryFailure"]["status"] == "False"


def test_times_change_with_the_status_only():
    first = conditions(Content({"pods.": 2}), [])
    for each in first:
        each["lastTransitionTime"] = "then"
    again = by_type(Content({"pods.": 1}), first)
    assert again["NamespaceContentRemaining"]["lastTransitionTime"] == "then"
    assert "has 1" in again["NamespaceContentRemaining"]["message"]
    assert by_type(Content(), first)["NamespaceContentRemaining"]["lastTransitionTime"] != "then"


def test_failures_are_said():
    found = by_type(Content(errors=("no",), undiscovered=("x/v1",)))
    assert found["NamespaceDeletionContentFailure"]["status"] == "True"
    assert "x/v1" in found["NamespaceDeletionDiscoveryFailure"]["message"]
    assert not Content(errors=("no",)).empty
    assert not Content(undiscovered=("x/v1",)).empty
    assert Content().empty


def test_active():
    assert is_active({"metadata": metadata("a"), "status": {"phase": "Active"}})
    assert is_active({"metadata": metadata("a")})
    assert not is_active({"metadata": metadata("a", deletionTimestamp="x"), "status": {"phase": "Active"}})


def test_terminating_namespaces_are_told_from_other_refusals():
    cause = {"causes": [{"reason": "NamespaceTerminating"}]}
    assert is_namespace_terminating(StatusError(403, "Forbidden", "", cause))
    assert not is_namespace_terminating(StatusError(403, "Forbidden", ""))


def test_the_root_certificate():
    made = desired("default", "PEM", None)
    assert made["data"] == {"ca.crt": "PEM"}
    assert desired("default", "PEM", made) is None
    changed = desired("default", "OTHER", made)
    assert changed["data"] == {"ca.crt": "OTHER"}


def test_which_controllers_are_enabled():
    assert Options("").enabled("deployment-controller")
    assert not Options("", controllers=("*", "-deployment-controller")).enabled("deployment-controller")
    assert Options("", controllers=("deployment-controller",)).enabled("deployment-controller")
    assert not Options("", controllers=("deployment-controller",)).enabled("replicaset-controller")
