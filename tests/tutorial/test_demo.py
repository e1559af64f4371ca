"""``make demo``: the tutorial's first sections in one command, which leaves the cluster up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local_cluster import LocalCluster, run

pytestmark = pytest.mark.e2e

DEMO = Path(__file__).parents[2] / "examples" / "demo.sh"
POD = r"exampledeployforservice-\w+-\w{5}"


def test_demo(buoy_home: Path) -> None:
    cluster = LocalCluster("buoy", buoy_home)  # the demo takes the default name
    try:
        shown = run([DEMO], env=cluster.environment, timeout=180).stdout
        pods = re.findall(rf"^({POD}) +1/1 +Running ", shown, re.M)
        assert len(pods) == 3
        assert "deployment.apps/exampledeployforservice created" in shown
        assert re.search(r"^exampleclusteripservice +ClusterIP +\S+ +<none> +8080/TCP", shown, re.M)
        endpoints = re.search(r"^Endpoints: +(\S+)$", shown, re.M)
        assert endpoints
        assert len(endpoints[1].split(",")) == 3
        answers = re.findall(rf"^<p>The host is ({POD})</p>$", shown, re.M)
        assert len(answers) >= 10
        assert set(answers) == set(pods)
        for share in ("0.33333333349", "0.50000000000"):
            assert f"statistic mode random probability {share}" in shown
        assert "buoy down" in shown, "it says how to end it"
        assert cluster.buoy("status").stdout.count(" Ready") == 3, "the cluster goes on running"

        again = run([DEMO], env=cluster.environment, timeout=180).stdout
        assert "The cluster is up already" in again
        assert "deployment.apps/exampledeployforservice unchanged" in again
    finally:
        cluster.buoy("down", check=False)
