"""A link that can become half open: runs a program and passes its stdin and stdout on, until SIGUSR1 comes.

From then on it swallows what either side says, and neither is told. argv: a file for its process id, the program.
"""
import os
import select
import signal
import subprocess
import sys


def main():
    swallowing = []
    signal.signal(signal.SIGUSR1, lambda *_: swallowing.append(True))
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
    program = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    ways = {0: program.stdin.fileno(), program.stdout.fileno(): 1}
    while True:
        for fd in select.select(list(ways), [], [])[0]:
            data = os.read(fd, 1 << 16)
            if not data and swallowing and fd:
                del ways[fd]        # nor that it has ended
            elif not data:
                program.stdin.close()
                return program.wait()
            while data and not swallowing:
                data = data[os.write(ways[fd], data):]


if __name__ == "__main__":
    main()
