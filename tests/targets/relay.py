"""A far link without a clock: runs a program and passes its stdin and stdout on in *flights*.

Whatever either side writes is held back until both have been silent for a while, so each of them waits for the other; then
all that was held back is delivered at once. So an answer that needs another answer first comes a flight later, however
fast the machines are. argv: the file to which a line is appended for each flight (its direction and bytes), the program.
"""
import os
import select
import subprocess
import sys

SILENCE_MS = 250


def main():
    flights = open(sys.argv[1], "a", 1)
    program = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    ways = {0: ("down", program.stdin.fileno()), program.stdout.fileno(): ("up", 1)}
    held = dict.fromkeys(ways, b"")
    poll = select.poll()
    for fd in ways:
        poll.register(fd, select.POLLIN)
    while True:
        ready = poll.poll(SILENCE_MS if any(held.values()) else None)
        for fd, _ in ready:
            data = os.read(fd, 1 << 20)
            held[fd] += data
            if not data:
                for fd, (_, to) in ways.items():
                    os.write(to, held[fd])
                program.stdin.close()
                return program.wait()
        if not ready:
            for fd, (way, to) in ways.items():
                data, held[fd] = held[fd], b""
                if data:
                    flights.write("%s %d\n" % (way, len(data)))
                while data:
                    data = data[os.write(to, data):]


if __name__ == "__main__":
    sys.exit(main())
