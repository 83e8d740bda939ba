"""The program of test_pairs.py: a controller of any Python from 3.10 on, with a node of each interpreter named in argv:
[label, path, words of a command that leads to where it is] in JSON.

Writes one JSON object: interpreter -> what was tried with it -> None, or what went wrong. It is the program's main module,
and a function of it is called over there: so it must load on 2.7.
"""
import json
import sys
import traceback

import ramet
from support import remote, remote_cancel, remote_channels, remote_service_streams, remote_streams

VALUES = [
    None, True, False, 0, -1, 2**31, -(2**63), 2**64 - 1, 2**70, -(3**80), 0.0, 1.5, float("inf"), 1 + 2j,
    "", "text", "h\xe9 \u20ac", "\U0001f600", "lone \udce9", b"", b"bytes \xff\x00", bytearray(b"array"),
    (), (1, (2, ["x"])), [1, [2, (3,)]], {}, {"k": {"n": [None]}}, {1: "int", (1, 2): "tuple", b"b": "bytes", None: 0},
    set(), {1, "a", (2, 3)}, frozenset({1, 2}), {"deep": [{"s": {1.5}}]}, "x" * 100000, b"y" * 300000,
]  # fmt: skip


def of_main(number):
    return number + 1


def types(value):
    """The types of a value and of all that is in it."""
    if isinstance(value, (list, tuple)):
        return type(value), [types(item) for item in value]
    if isinstance(value, dict):
        return dict, [(types(key), types(value[key])) for key in sorted(value, key=repr)]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(str, map(type, value)))
    return type(value)


def call(node, label, path):
    assert node.call(remote.python) == label.removeprefix("pypy")
    assert node.call(remote.add, 1, b=2) == 3
    assert node.call(len, "four") == 4
    assert [call.result() for call in [node.start(remote.append, n) for n in range(20)]][-1] == list(range(20))


def exception(node, label, path):
    for way, kind, text in ((remote.fail, ValueError, "o\xf6ps"), (remote.fail_with_cause, KeyError, "")):
        try:
            node.call(way, *[text] * (way is remote.fail))
        except kind as error:
            assert isinstance(error, ramet.RemoteError)
            assert error.type_name == "builtins." + kind.__name__ or label == "2.7", error.type_name
            assert "Traceback (most recent call last):" in error.traceback_text
            assert "support/remote.py" in error.traceback_text and "in " + way.__name__ in error.traceback_text
            assert text in str(error) and (not text or "raise ValueError(message)" in error.traceback_text)
            cause = error.__cause__
            assert bool(text) or (isinstance(cause, ValueError) and str(cause) == "inner")
        else:
            raise AssertionError("nothing was raised")
    try:
        node.call(remote.fail_with_file)
    except OSError as error:
        assert isinstance(error, FileNotFoundError if label != "2.7" else OSError)
        assert (error.errno, error.filename) == (2, "/does/not/exist")
    else:
        raise AssertionError("nothing was raised")


def own_module(node, label, path):
    before = node._tree.stats()["module_requests"]
    assert node.call(remote.from_own_module) == 42
    assert node.call(remote.import_by_name, "support.remote_part").startswith("ramet:")
    assert node.call(of_main, 1) == 2
    assert node._tree.stats()["module_requests"] == before, "something was asked for"


def grandchild(node, label, path):
    child = node.local(python=path)
    assert child.call(remote.python) == label.removeprefix("pypy")
    assert child.call(remote.where) == [child.id, child.name, node.id, 0]
    assert child.call(remote.from_own_module) == 42
    assert child.options(lane="files").call(remote.thread_name) != "MainThread"
    try:
        child.call(remote.fail, "deep")
    except ValueError as error:
        assert isinstance(error, ramet.RemoteError) and "raise ValueError(message)" in error.traceback_text
    else:
        raise AssertionError("nothing was raised")
    child.close()


def values(node, label, path):
    for value in VALUES:
        there = node.call(remote.echo, value)
        assert (there, types(there)) == (value, types(value)), (repr(there)[:200], repr(value)[:200])
    made = node.call(remote.make)
    text_on_2 = "bytes" if label == "2.7" else b"bytes"     # there b"" is what "" is, and arrives as text
    expected = {"text": "text", "unicode": "h\xe9", "bytes": text_on_2, "int": 2**70, "float": 1.5, "tuple": (1, ("x",)),
                "set": {1, 2}, "dict": {1: "one"}, "not utf-8": "\udcff" if label == "2.7" else b"\xff"}
    assert (made, types(made)) == (expected, types(expected)), made


def streaming(node, label, path):
    assert list(node.stream(remote_streams.count, 3000)) == list(range(3000))
    items = list(node.stream(remote_streams.count, 5, 200000))
    assert [(n, len(data)) for n, data in items] == [(n, 200000) for n in range(5)]
    assert node.call(remote_streams.total, iter(range(3000))) == sum(range(3000))
    node.call(remote_streams.clear)
    with node.stream(remote_streams.noted, 1000000) as stream:
        next(stream)
    assert node.call(remote_streams.wait_for, "end")
    try:
        list(node.stream(remote_streams.noted, 5, 3))
    except ValueError as error:
        assert isinstance(error, ramet.RemoteError)
    else:
        raise AssertionError("nothing was raised")
    there, back = node._tree.channel(), node.call(remote_channels.make)
    call = node.options(lane="*").start(remote_channels.echo, there, back)
    for n in range(500):
        there.send((n, b"x"))
    there.close()
    assert list(back) == [(n, b"x") for n in range(500)]
    call.result()


def cancelling(node, label, path):
    node.call(remote_cancel.forget)
    watch = node.options(lane="watch")
    call = node.start(remote_cancel.sleep)
    while watch.call(remote_cancel.noted) != ["begun"]:
        pass
    assert call.cancel() and isinstance(call.exception(), ramet.CallCancelled)
    assert node.call(remote_cancel.noted) == ["begun", "ended"], "the main lane is free when the call has ended"
    try:
        node.options(timeout=0.2).call(remote_cancel.sleep)
    except ramet.CallTimeout:
        assert node.call(remote.add, 1, b=2) == 3
    else:
        raise AssertionError("nothing was raised")


def asynchronous(node, label, path):
    from support import pair_asynchronous  # which doesn't load on 2.7
    pair_asynchronous.check(node)


def serving(node, label, path):
    source = node.serve("source", remote_service_streams.Source, allow="anyone")
    node.call(remote_streams.clear)
    assert list(source.rows(3000)) == list(range(3000))
    with source.noted(1000000) as stream:
        next(stream)
    assert source.wait_for("end")
    assert node.call(remote_service_streams.read, node.id, "source", "rows", 3) == ([0, 1, 2], None)
    node.withdraw("source")


def look(check, *args):
    try:
        check(*args)
    except Exception:
        return traceback.format_exc()
    return None


def main():
    report = {}
    with ramet.Tree() as tree:
        nodes = []
        for label, path, before in map(json.loads, sys.argv[1:]):
            nodes.append((label, path, tree.command(before, python=path) if before else tree.local(python=path)))
        for label, path, node in nodes:
            report[label] = {check.__name__: look(check, node, label, path) for check in
                             (call, exception, own_module, grandchild, values, streaming, cancelling, asynchronous, serving)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
