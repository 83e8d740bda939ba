"""The program of test_keepalive.py that is stopped: nodes as its children and below, over sockets, pipes, and forked.

It says their process ids, and when it is told to on stdin, what it thinks of them.
"""
import sys
import time

import ramet
from support import remote, remote_silent


def main():
    with ramet.Tree(keepalive_s=0.25, lost_after_s=6) as tree:
        piped = tree.command(["env"], python=[sys.executable])
        nodes = [tree.local(), piped, piped.local(), tree.fork()]
        while not all(node.call(remote_silent.watches) for node in nodes):      # they are told at the first look
            time.sleep(0.05)
        print(*[node.call(remote.pid) for node in nodes], flush=True)
        sys.stdin.readline()
        for node in nodes:
            try:
                node.call(remote.pid)
            except ramet.NodeLostError as error:
                print(error, flush=True)


if __name__ == "__main__":
    main()
