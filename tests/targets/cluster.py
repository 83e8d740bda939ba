"""What the real ``kubectl`` talks to, as far as ``exec`` needs it: a stand-in for the API server of a cluster of one pod.

A cluster can't run here. What is real is the client: its arguments, its configuration, how it carries stdin, stdout, stderr and
the exit status over a WebSocket (channels 0 to 3 of v5.channel.k8s.io, kubectl 1.30 or newer), its words when that fails.
"""
from __future__ import annotations

import base64
import hashlib
import json
import struct
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support import needs

_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PODS = "/api/v1/namespaces/shop/pods/"
_PLAIN: dict[str, dict[str, Any]] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]}]},
    # looked at when there is no such pod
    "/api/v1/namespaces/shop": {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}},
}  # fmt: skip


def _pod(name: str, phase: str = "Running") -> tuple[int, dict[str, Any]]:
    return 200, {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "shop"},
                 "spec": {"containers": [{"name": "first", "image": "x"}, {"name": "second", "image": "x"}]},
                 "status": {"phase": phase}}  # fmt: skip


def _failure(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    details = {"name": message.split('"')[1], "kind": "pods"} if '"' in message else {}
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
                  "details": details, "code": code}  # fmt: skip


def _answer(path: str, name: str) -> tuple[int, dict[str, Any]]:
    if path in _PLAIN:
        return 200, _PLAIN[path]
    if path == "/api/v1/namespaces/elsewhere":
        return _failure(404, "NotFound", 'namespaces "elsewhere" not found')
    if name == "unauthorized":
        return _failure(401, "Unauthorized", "Unauthorized")
    if name == "forbidden" and path.endswith("/exec"):
        return _failure(403, "Forbidden", 'pods "forbidden" is forbidden: User "jo" cannot create resource "pods/exec" in API '
                                          'group "" in the namespace "shop"')  # fmt: skip
    if name in ("app", "done", "forbidden") and not path.endswith("/exec"):
        return _pod(name, "Succeeded" if name == "done" else "Running")
    return _failure(404, "NotFound", f'pods "{name}" not found')


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Cluster

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        name = where.path.removeprefix(_PODS).partition("/")[0]
        query = parse_qs(where.query)
        if where.path == f"{_PODS}app/exec":
            if self.headers.get("Upgrade", "").lower() == "websocket" and query["container"][0] in ("first", "second"):
                self._exec(query["command"], query["container"][0])
                return
            code, body = _failure(400, "BadRequest", f"container {query['container'][0]} is not valid for pod app")
        else:
            code, body = _answer(where.path, name)
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET        # how older clients ask, and newer ones that were refused

    # ------------------------------------------------------------------ exec

    def _exec(self, argv: list[str], container: str) -> None:
        self.close_connection = True
        accept = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _KEY).digest()).decode()
        self.send_response(101)
        for key, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept),
                           ("Sec-WebSocket-Protocol", "v5.channel.k8s.io")):  # fmt: skip
            self.send_header(key, value)
        self.end_headers()
        self.sending = threading.Lock()
        try:
            process = subprocess.Popen(["env", f"RMT_CONTAINER={container}", *argv],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        except OSError as error:
            self._send(3, json.dumps(_failure(500, "InternalError", str(error))[1]).encode())
            return
        self.server.processes.append(process)
        with process:
            assert process.stdin and process.stdout and process.stderr
            pumps = [threading.Thread(target=self._pump, args=pair) for pair in ((1, process.stdout), (2, process.stderr))]
            ending = threading.Thread(target=self._end, args=(process, pumps))
            for thread in (*pumps, ending):
                thread.start()
            self._receive(process.stdin)
            ending.join()

    def _pump(self, channel: int, stream: Any) -> None:
        while data := stream.read1(32768):
            if not self._send(channel, data):
                break

    def _end(self, process: subprocess.Popen[bytes], pumps: list[threading.Thread]) -> None:
        status = process.wait()
        for pump in pumps:
            pump.join()
        result: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if status:
            number = 128 - status if status < 0 else status
            result = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                      "message": f"command terminated with non-zero exit code: exit status {number}",
                      "details": {"causes": [{"reason": "ExitCode", "message": str(number)}]}}  # fmt: skip
        self._send(3, json.dumps(result).encode())
        self._frame(8, struct.pack("!H", 1000))

    def _receive(self, stdin: Any) -> None:
        """Hand on what comes on channel 0, until the client goes, or says that no more comes."""
        try:
            while True:
                kind, data = self._read_frame()
                if kind == 9:
                    self._frame(10, data)
                elif kind in (1, 2) and data[:1] == b"\0":
                    stdin.write(data[1:])
                    stdin.flush()
                elif kind in (1, 2) and data[:2] == b"\xff\0":
                    stdin.close()
                elif kind == 8:
                    break
        except (OSError, EOFError, ValueError):
            pass    # either side has gone
        try:
            stdin.close()
        except OSError:
            pass

    def _read_frame(self) -> tuple[int, bytes]:
        head = self._exactly(2)
        size = head[1] & 127
        if size > 125:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
        mask = self._exactly(4)
        data = self._exactly(size)
        whole = int.from_bytes(data, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        return head[0] & 15, whole.to_bytes(size, "big")

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _send(self, channel: int, data: bytes) -> bool:
        return self._frame(2, bytes([channel]) + data)

    def _frame(self, kind: int, data: bytes) -> bool:
        size = bytes([len(data)]) if len(data) < 126 else struct.pack("!BH", 126, len(data))
        with self.sending:
            try:
                self.wfile.write(bytes([128 | kind]) + size + data)
                self.wfile.flush()
                return True
            except OSError:
                return False


class Cluster(ThreadingHTTPServer):
    """The stand-in, and a configuration for kubectl in ``config``. A context manager.

    Skips the test where there is no kubectl that is new enough.
    """

    daemon_threads = False

    def __init__(self, folder: Path) -> None:
        said = subprocess.run([needs.program("kubectl"), "version", "--client", "-o", "json"], capture_output=True).stdout
        minor = json.loads(said)["clientVersion"]["minor"].rstrip("+")
        if int(minor) < 30:
            needs.lacking(f"a kubectl of 1.30 or newer (this one is 1.{minor}), which uses WebSockets")
        super().__init__(("127.0.0.1", 0), _Handler)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.config = folder / "config"
        self.config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "u", "user": {"token": "t"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}]}))  # fmt: skip
        self.env = {"KUBECONFIG": str(self.config), "HOME": str(folder)}

    def __enter__(self) -> Cluster:
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        return self

    def __exit__(self, *ended: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()     # waits for the threads of all that came
