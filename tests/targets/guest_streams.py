"""A guest of test_guests_streams.py, as a program of its own. argv: the socket's path. It has a stream and channels."""
import sys

import ramet

if __name__ == "__main__":
    with ramet.Tree(remember=False) as tree:
        desk = tree.attach(sys.argv[1]).service("desk")
        stream = desk.many(1000)
        own = tree.channel()
        desk.take("its", own)
        ours = desk.keep("ours")
        ours.send("from the guest")
        print(len(next(stream)), ours.receive(), own.receive(), flush=True)
        sys.stdin.read()
