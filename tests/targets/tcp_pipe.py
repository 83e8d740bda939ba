"""argv: host, port. Its stdin and stdout become a TCP connection: for a relay between an ssh client and its server."""
import os
import select
import socket
import sys


def main():
    there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ways = {0: there.fileno(), there.fileno(): 1}
    while True:
        for fd in select.select(list(ways), [], [])[0]:
            data = os.read(fd, 1 << 18)
            if not data:
                return
            while data:
                data = data[os.write(ways[fd], data):]


if __name__ == "__main__":
    main()
