"""A program of test_attaching.py, whose node outlives it. argv: how, the socket's path, the interpreter, seconds to wait or "".

It says the node's pid when the node is kept, and goes on until its stdin is closed.
"""
import os
import sys

import ramet
from support import leaks, remote_lasting


def main():
    how, path, python, wait_s = sys.argv[1:]
    options = {"wait_s": float(wait_s)} if wait_s else {}
    os.environ.setdefault(leaks.MARK_NAME, "by hand")       # else the node is nobody's, for other tests that run meanwhile
    with ramet.Tree(remember=False) as tree:
        node = tree.local(python=python or None, name="build")
        pid, _ = node.call(remote_lasting.add, "first")
        if how == "below":
            node = node.local(name="below")
            pid, _ = node.call(remote_lasting.add, "first")
        if how == "keep":
            assert node.keep(path, **options) == path
            node.call(remote_lasting.add, "kept")
        elif how == "given up":
            node.keep(path, **options)
            try:
                node.options(timeout=60).call(remote_lasting.give_up_its_link)
            except ramet.NodeLostError:
                pass
        elif how == "stuck":
            node.options(lane="other").start(remote_lasting.read, path + ".fifo")
            while "stuck" not in node.call(remote_lasting.state)[0]:
                pass
            node.detach(path, **options)
        elif how == "busy":
            begun = [node.options(lane="other").start(remote_lasting.work), node.stream(remote_lasting.count)]
            channel = tree.channel()
            assert next(begun[1]) == 1
            while "work" not in node.call(remote_lasting.state)[0]:
                pass
            node.call(remote_lasting.go_on)
            begun.append(node.start(remote_lasting.work, "main"))
            while "main" not in node.options(lane="third").call(remote_lasting.state)[0]:
                pass
            begun.append(node.options(lane=ramet.ANY).start(remote_lasting.receive, channel))
            begun[2].cancel()
            node.detach(path, **options)
            said = []
            for one in (begun[0], begun[3]):
                try:
                    one.result()
                except ramet.Error as error:
                    said.append(type(error).__name__)
            try:
                list(begun[1])
            except ramet.Error as error:
                said.append(type(error).__name__)
            print(*said, flush=True)
        else:
            assert node.detach(path, **options) == path
            try:
                node.call(remote_lasting.pid)
            except ramet.ClosedError as error:
                assert path in str(error)
            else:
                raise AssertionError("a detached node was called")
        print(pid, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
