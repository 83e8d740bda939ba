"""Many nodes of one program that may have few descriptors: a program of its own, since the limit is the whole process's."""
import resource
import sys

import ramet
from support import remote


def main(count, limit):
    """Grow so many local nodes at once, and say what became of them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    with ramet.Tree() as tree:
        nodes = tree.connect_all([sys.executable] * count, "local").nodes
        outcomes = dict(tree.each(nodes, remote.add, 1, 2))
        good = [node for node in nodes if outcomes[node].ok]
        open(__file__).close()      # the program itself can go on
        assert all(outcomes[node].value == 3 for node in good)
        again = dict(tree.each(good, remote.from_own_module))
        assert all(outcome.value == 42 for outcome in again.values()), [one.error for one in again.values() if not one.ok][:1]
        print("good", len(good))
        node = good[0]
        while node.error is None and limit < count:     # it takes long to have a thousand
            node = tree.local()
            try:
                node.wait()
            except ramet.ConnectError as error:
                assert "too many open files" in str(error), error
        files = [open(__file__) for _ in range(8)]      # what is kept for the program
        for file in files:
            file.close()
        for node in nodes:
            if not outcomes[node].ok:
                print("failed", type(outcomes[node].error).__name__, str(outcomes[node].error).replace("\n", " "))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
