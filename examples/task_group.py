"""asyncio: many calls at a time in a TaskGroup, a deadline for all of them, and what a failed one does to the others.

    python task_group.py [SPEC ...]     # needs Python 3.11 for asyncio.TaskGroup

Prints:

    squares: [0, 1, 4, 9, 16]
    a group of which one fails: three isn't welcome; the others were cancelled: True
    a deadline for all: TimeoutError
    still there: 1
"""
import asyncio
import sys

import ramet


async def square(number, patience=0.0):
    """A coroutine function runs on the other node's event loop: a thousand may wait there at a time."""
    await asyncio.sleep(patience)
    if number == 3 and patience:
        raise ValueError("three isn't welcome")
    await asyncio.sleep(patience * 1000)
    return number * number


async def done(call):
    """What makes a coroutine of a call, as task groups want one."""
    return await call


async def main():
    async with ramet.Tree() as tree:
        nodes = [tree.connect(spec) for spec in sys.argv[1:] or ["local", "local"]]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(done(nodes[n % len(nodes)].start(square, n))) for n in range(5)]
        print("squares:", [task.result() for task in tasks])

        calls = [nodes[n % len(nodes)].start(square, n, 0.1) for n in range(5)]
        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(done(call))
        except ExceptionGroup as group_error:  # noqa: F821 - 3.11's; or: except* ValueError
            reason = str(group_error.exceptions[0]).splitlines()[0]
            cancelled = [isinstance(call.exception(), ramet.CallCancelled) for call in calls]
            print(f"a group of which one fails: {reason}; the others were cancelled: {cancelled.count(True) == 4}")

        try:
            async with asyncio.timeout(0.2):
                await asyncio.gather(*(node.start(square, 7, 1000.0) for node in nodes))
        except TimeoutError:
            print("a deadline for all: TimeoutError")
        print("still there:", await nodes[0].start(abs, -1))


if __name__ == "__main__":
    asyncio.run(main())
