"""A guest of test_guests.py, as a program of its own. argv: the socket's path. It asks for what takes for ever."""
import sys

import ramet

if __name__ == "__main__":
    with ramet.attach(sys.argv[1], remember=False) as shop:
        call = shop.service("shelf").wait.start()
        print("asked", flush=True)
        call.result()
