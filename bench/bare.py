"""Another process behind a socketpair, with nothing in between but the system: the floor of what a library could reach."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable


def process(answer: Callable[[socket.socket, bytes], None]) -> socket.socket:
    """Fork a process that answers each byte that it gets, until there are no more. To be called before there are threads.

    Args:
        answer: gets the other end of the returned socket, and the byte.
    """
    near, far = socket.socketpair()
    if os.fork() == 0:
        near.close()
        while asked := far.recv(1):
            answer(far, asked)
        os._exit(0)
    far.close()
    return near
