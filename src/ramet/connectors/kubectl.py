"""The connector ``kubectl``: an interpreter in a container of a Kubernetes pod. Pure."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ramet.connectors import CONNECT_TIMEOUT_S, Plan, Python, argument, beginning_in, behind, options, texts
from ramet.connectors.rules import NO_FOLDER, Rule, exits


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
    return behind(f"kubectl {pod}", head, pod.rpartition("/")[2], name, python, connect_timeout_s, rules=_RULES)


_CONFIGURATION = "see kubectl config view, or give context= or kubeconfig="
_RULES: list[Rule] = [
    # Without any credentials it asks for them, on the link.
    {"on": "output", "match": "Please enter (Username|Password): \\Z", "error": "AuthenticationError", "stage": "authenticate",
     "text": "kubectl has no credentials for this cluster", "remedy": _CONFIGURATION},
    *NO_FOLDER,
    *exits("start", None, [
        ("PythonNotFoundError", ("executable file[^\n]{1,300}not found|no such file or directory\"?: unknown|"
         "exec: \\\\?\"[^\n]{1,300}: "),
         "there is no such program in there: no Python, or no sh to look for one", "say where an interpreter is: python="),
        ("AuthenticationError", "\\(Unauthorized\\)|must be logged in|provide credentials",
         "the cluster doesn't know who this is", _CONFIGURATION),
        ("AuthenticationError", "Forbidden|is forbidden|cannot create resource \"pods/exec\"", "the cluster doesn't allow it",
         "this needs the right to create pods/exec: kubectl auth can-i create pods/exec"),
        ("ConnectError", ("context was not found|context [^\n]{1,300} does not exist|no context exists|error loading config|"
         "^error: stat [^\n]{1,300}: no such file"), "there is no such configuration", "check context= and kubeconfig="),
        ("ConnectError", "container [^\n]{1,300} (is not valid for|not found in) pod|container not found",
         "the pod has no such container, or it doesn't run", "check container=; see kubectl describe pod"),
        ("ConnectError", "namespaces \"[^\n]{1,300}\" not found", "there is no such namespace",
         "see the names: kubectl get namespaces; check namespace= and context="),
        ("ConnectError", "[a-z.] \"[^\n]{1,300}\" not found|no (pods|resources) found|pod does not exist",
         "there is no such pod", "see the names: kubectl get pods; check namespace= and context="),
        ("ConnectError", "doesn't have a resource type", "there is no such kind of resource",
         "name a pod, or write deployment/NAME and the like"),
        ("ConnectError", "in a completed pod|current phase is|timed out waiting for the condition", "the pod doesn't run",
         "see kubectl describe pod"),
        ("ConnectError", "connection to the server|Unable to connect|dial tcp|no such host|i/o timeout|refused|x509",
         "the cluster can't be reached", "see kubectl cluster-info"),
        ("ConnectError", "unable to upgrade connection", "the pod's machine doesn't take the connection",
         "see kubectl describe pod, and whether a proxy is between"),
        ("ConnectError", "unknown (shorthand )?flag", "kubectl doesn't take its options", "see kubectl_args="),
    ]),
]  # fmt: skip
