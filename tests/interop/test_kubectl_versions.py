"""kubectl of several versions: that of the lock file, the distribution's, and any that are asked for.

``make test`` unpacks the distribution's beside the virtual environment (Debian 12 has 1.20, the oldest that
has to work). ``BUOY_TEST_KUBECTLS`` may name more, separated as in ``PATH``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import manifests
from local_cluster import KUBECTL, Namespace, until

pytestmark = pytest.mark.e2e

ASKED_FOR = os.environ.get("BUOY_TEST_KUBECTLS", "").split(os.pathsep)
KUBECTLS = [KUBECTL, *Path(sys.prefix).glob("kubectl-*/kubectl"), *(Path(part) for part in ASKED_FOR if part)]


@pytest.mark.parametrize("program", KUBECTLS, ids=str)
def test_the_main_path(program: Path, namespace: Namespace, tmp_path: Path) -> None:
    def kubectl(*arguments: str | Path, **keywords: object) -> str:
        return str(namespace.kubectl(*arguments, program=program, **keywords).stdout)

    tutorial = Path(__file__).parents[2] / "examples" / "tutorial"
    deployment = tutorial / "exampledeployforservice.yml"
    assert kubectl("apply", "-f", deployment) == "deployment.apps/exampledeployforservice created\n"
    assert kubectl("apply", "-f", deployment) == "deployment.apps/exampledeployforservice unchanged\n"
    kubectl("apply", "-f", tutorial / "exampleclusteripservice.yml")
    kubectl("rollout", "status", "deployment/exampledeployforservice", "--timeout=60s")
    lines = kubectl("get", "pods", "-o", "wide").splitlines()
    assert lines[0].split()[:4] == ["NAME", "READY", "STATUS", "RESTARTS"]
    assert [line.split()[1:3] for line in lines[1:]] == [["1/1", "Running"]] * 3
    assert "8080/TCP" in kubectl("get", "service")
    assert len(namespace.until_endpoints("exampleclusteripservice", 3)) == 3
    described = kubectl("describe", "service", "exampleclusteripservice")
    assert described.count(":80,") == 2

    name = lines[1].split()[0]
    assert kubectl("exec", name, "--", "hostname") == f"{name}\n"
    text = "".join(f"{number}\n" for number in range(20_000))
    assert kubectl("exec", "-i", name, "--", "cat", input=text) == text
    failed = namespace.kubectl("exec", name, "--", "sh", "-c", "exit 9", program=program, check=False)
    assert failed.returncode == 9
    namespace.apply(manifests.pod("talker", manifests.pod_spec(manifests.shell("echo said; exec sleep 99"))))
    namespace.wait("condition=Ready", "pod/talker")
    assert until(lambda: kubectl("logs", "talker")) == "said\n"
    (tmp_path / "sent").write_text("sent by cp\n")
    kubectl("cp", tmp_path / "sent", "talker:/tmp/sent")
    assert kubectl("exec", "talker", "--", "cat", "/tmp/sent") == "sent by cp\n"

    assert "scaled" in kubectl("scale", "deployment/exampledeployforservice", "--replicas=1")
    assert "patched" in kubectl(
        "patch", "service", "exampleclusteripservice", "-p", '{"metadata": {"labels": {"a": "b"}}}'
    )
    assert "labeled" in kubectl("label", "service", "exampleclusteripservice", "c=d")
    assert kubectl("explain", "service.spec.ports.nodePort").splitlines()[0].startswith("KIND:")
    assert "deleted" in kubectl("delete", "-f", deployment, "--grace-period=1", "--wait=false")
