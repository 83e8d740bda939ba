"""The real ``kubectl`` with a stand-in for a cluster's API server: nodes grown through it, and its words when that fails."""
from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet import NodeLostError, PythonNotFoundError, Tree
from ramet.testing import check_connector
from support import remote
from targets.cluster import Cluster
from targets.ending import check_ending

PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as up:
        yield up


def test_a_node_through_it(tree: Tree, cluster: Cluster) -> None:
    check_connector(lambda own: own.kubectl("app", kubeconfig=cluster.config, python=PYTHON))
    node = tree.kubectl("app", container="second", kubeconfig=cluster.config, context="x", workdir="/tmp", env={"RMT": "a b"})
    assert node.call(remote.from_own_module) == remote.from_own_module()
    assert node.call(os.getenv, "RMT_CONTAINER") == "second"
    assert (node.call(os.getcwd), node.call(os.getenv, "RMT")) == ("/tmp", "a b")
    child = tree.local(env=cluster.env).kubectl("app").local()
    assert child.local().call(remote.from_own_module) == remote.from_own_module()


def test_gone_in_mid_call(tree: Tree, cluster: Cluster) -> None:
    node = tree.kubectl("app", kubeconfig=cluster.config, python=PYTHON).wait(60)
    call = node.start(time.sleep, 600)
    cluster.processes[-1].kill()
    with pytest.raises(NodeLostError):
        call.result(60)


def test_ended_from_outside(tree: Tree, cluster: Cluster) -> None:
    check_ending(lambda **more: tree.kubectl("app", kubeconfig=cluster.config, python=PYTHON, **more))


@pytest.mark.parametrize(("options", "kind", "cause"), [
    ({"pod": "nothing"}, "ConnectError", "no such pod"),
    ({"pod": "app", "namespace": "elsewhere"}, "ConnectError", "no such namespace"),
    ({"pod": "app", "container": "third"}, "ConnectError", "no such container"),
    ({"pod": "done"}, "ConnectError", "doesn't run"),
    ({"pod": "unauthorized"}, "AuthenticationError", "doesn't know who"),
    ({"pod": "forbidden"}, "AuthenticationError", "doesn't allow it"),
    ({"pod": "rubbish/app"}, "ConnectError", "no such kind"),
    ({"pod": "app", "context": "y"}, "ConnectError", "no such configuration"),
    ({"pod": "app", "kubeconfig": "/no/such/file"}, "ConnectError", "no such configuration"),
    ({"pod": "app", "kubectl_args": ["--no-such-option"]}, "ConnectError", "doesn't take its options"),
    ({"pod": "app", "workdir": "/no/such/folder"}, "ConnectError", "folder"),
])  # fmt: skip
def test_what_it_says(tree: Tree, cluster: Cluster, options: dict[str, Any], kind: str, cause: str) -> None:
    with pytest.raises(getattr(ramet, kind), match=cause) as caught:
        tree.grow("kubectl", **{"kubeconfig": cluster.config, **options}).wait(60)
    assert type(caught.value).__name__ == kind
    assert caught.value.stage == "start"
    assert "remedy: " in str(caught.value)


def test_no_cluster_and_no_python(tree: Tree, cluster: Cluster, tmp_path: Path) -> None:
    config = json.loads(cluster.config.read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "config").write_text(json.dumps(config))
    with pytest.raises(ramet.ConnectError, match="can't be reached"):
        tree.kubectl("app", kubeconfig=tmp_path / "config").wait(60)
    with pytest.raises(PythonNotFoundError):
        tree.kubectl("app", kubeconfig=cluster.config, python="/no/such/python").wait(60)
