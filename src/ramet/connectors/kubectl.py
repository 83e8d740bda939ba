"""The connector ``kubectl``: an interpreter in a container of a Kubernetes pod. Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, beginning_in, behind, options, texts
from ramet.connectors.rules import NO_FOLDER, exits


def plan(
    pod: str,
    *,
    container: str | None = None,
    workdir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    namespace: str | None = None,
    context: str | None = None,
    kubeconfig: str | os.PathLike[str] | None = None,
    kubectl_args: Sequence[str] = (),
    kubectl_path: str | os.PathLike[str] = "kubectl",
    python: Python = None,
    name: str | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> Plan:
    """Start an interpreter in a pod.

    Args:
        pod: its name, or ``deployment/NAME`` and the like: then one of its pods.
        container: which of the pod's. Default: the first, or the one that the pod names.
        workdir: the folder in there to start in.
        env: more variables. They show in the arguments of the program: not for secrets.
        namespace, context, kubeconfig: instead of those of kubectl's configuration.
        kubectl_args: more arguments, behind ``exec``.
        kubectl_path: the program.
        python: the interpreter in there, or a list with its flags. Default: one is looked for with ``sh``.
        name: the node's name. Default: the pod's.
        connect_timeout_s: how long it may take, in seconds.

    Raises:
        TypeError, ValueError: an option is unusable.
    """
    own = options({"--kubeconfig": kubeconfig, "--context": context, "--namespace": namespace})
    head = [os.fspath(kubectl_path), *own, "exec", "-i", argument("pod", pod),
            *options({"--container": container}), *texts("kubectl_args", kubectl_args), "--",
            *beginning_in(workdir, env)]  # fmt: skip
    return behind(f"kubectl {pod}", head, pod.rpartition("/")[2], name, python, connect_timeout_s, rules=_EXITS)


_EXITS = [*NO_FOLDER, *exits("start", None, [
    ("ConnectError", "pods? \"[^\n]{1,300}\" not found|[a-z.]+ \"[^\n]{1,300}\" not found|no (pods|resources) found",
     "there is no such pod", "see the names: kubectl get pods; check namespace= and context="),
    ("ConnectError", "container [^\n]{1,300} (is not valid for|not found in) pod|container not found",
     "the pod has no such container", "check container="),
    ("ConnectError", "cannot exec in(to)? a container in a completed pod|unable to upgrade connection|current phase is",
     "the pod doesn't run", "see kubectl describe pod"),
    ("AuthenticationError", "Forbidden|cannot create resource \"pods/exec\"|must be logged in|Unauthorized",
     "the cluster doesn't allow it", "this needs the right to create pods/exec: kubectl auth can-i create pods/exec"),
    ("ConnectError", ("context [^\n]{1,300} does not exist|no context exists|stat [^\n]{1,300}: no such file|"
     "error loading config"),
     "there is no such configuration", "check context= and kubeconfig="),
    ("ConnectError", "connection to the server|Unable to connect|dial tcp|no such host|i/o timeout|refused",
     "the cluster can't be reached", "see kubectl cluster-info"),
    ("PythonNotFoundError", "executable file[^\n]{1,300}not found|no such file or directory: unknown|exec: \"[^\n]{1,300}\": ",
     "there is no such program in there: no Python, or no sh to look for one", "say where an interpreter is: python="),
    ("ConnectError", "unknown (shorthand )?flag", "kubectl doesn't take its options", "see kubectl_args="),
])]  # fmt: skip
