"""Follow a log file on another machine, and stop when you have seen enough.

    python follow_log.py [SPEC FILE WORD]

Prints, without arguments, for a file that a program over there writes:

    1: started
    2: request 0
    3: request 1
    4: request 2
    5: ERROR in request 3
    the generator over there is closed
"""
import os
import sys
import tempfile
import time

import ramet


def follow(path, offset=0):
    """Each line of a file, also those that are written from now on. Runs over there, as long as somebody reads."""
    with open(path) as file:
        file.seek(offset)
        while True:
            line = file.readline()
            if line.endswith("\n"):
                yield line.rstrip("\n")
            else:
                file.seek(file.tell() - len(line))      # half a line: look again
                time.sleep(0.05)


def busy_program(path):
    """What writes the log, in this example. Runs over there, too, in a lane of its own."""
    with open(path, "w") as file:
        for line in ["started"] + [("ERROR in " if n == 3 else "") + f"request {n}" for n in range(100000)]:
            file.write(line + "\n")
            file.flush()
            time.sleep(0.001)


if __name__ == "__main__":
    spec, path, word = sys.argv[1:] if len(sys.argv) > 1 else ("local", None, "ERROR")
    with ramet.Tree() as tree, tempfile.TemporaryDirectory() as folder:
        node = tree.connect(spec)
        if path is None:
            path = os.path.join(folder, "app.log")
            writes = node.options(lane="writes").start(busy_program, path)
            while not os.path.exists(path):
                time.sleep(0.01)
        with node.stream(follow, path) as lines:        # no more than a quarter of a megabyte is ever under way
            for number, line in enumerate(lines, 1):
                print(f"{number}: {line}")
                if word in line:
                    break
        print("the generator over there is closed")
        node.kill()
