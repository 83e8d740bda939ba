"""A pipeline of nodes, joined by channels: each stage takes from one and puts into the next. Nothing passes through this
program but what comes out at the end, and no stage runs ahead of the next one by more than a channel holds.

    python pipeline.py [SPEC SPEC SPEC]

Prints:

    2000 lines went through, 667 came out
    the first: LINE 0, the last: LINE 1998
"""
import sys

import ramet


def produce(lines, count):
    """The first stage."""
    for number in range(count):
        lines.send(f"line {number}")
    lines.close()


def every_third(lines, chosen):
    """The second; there may be several of them, each item goes to one."""
    for line in lines:
        if int(line.split()[1]) % 3 == 0:
            chosen.send(line)
    chosen.close()


def shout(chosen, out):
    """The last."""
    for line in chosen:
        out.send(line.upper())
    out.close()


def make_channel():
    """A channel is held by the node that makes it: here one that uses it much."""
    return ramet.here().channel(100)


if __name__ == "__main__":
    with ramet.Tree() as tree:
        first, second, third = [tree.connect(spec) for spec in sys.argv[1:4] or ["local", "local", "local"]]
        lines, chosen, out = second.call(make_channel), third.call(make_channel), tree.channel(100)
        stages = [first.start(produce, lines, 2000), second.start(every_third, lines, chosen), third.start(shout, chosen, out)]
        came = list(out)
        for stage in stages:
            stage.result()
        print(f"2000 lines went through, {len(came)} came out")
        print(f"the first: {came[0]}, the last: {came[-1]}")
