"""Cell by cell, as in a notebook: no main guard, functions where they are needed.

Open it in an editor that knows cells (# %%), paste it into Jupyter, or

    python -i - < notebook.py

What is typed in has no file: functions travel themselves, with what they use.

Prints:

    [10, 20, 30]
    a class, too: Point(x=2, y=4)
    [0, 1, 2]
"""
# %% one tree for the whole session
import ramet

tree = ramet.Tree()
node = tree.local()

# %% a function that was just typed in
factor = 10
print(node.call(lambda numbers: [number * factor for number in numbers], [1, 2, 3]))

# %% a class
from dataclasses import dataclass  # noqa: E402


@dataclass
class Point:
    x: int
    y: int

    def doubled(self):
        return Point(self.x * 2, self.y * 2)


print("a class, too:", node.call(Point(1, 2).doubled))


# %% a generator
def count(to):
    yield from range(to)


print(list(node.stream(count, 3)))

# %% the end of the session
tree.close()
