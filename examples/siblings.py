"""Nodes that use each other: one serves an object, its siblings call its methods and read what they yield.

    python siblings.py [SPEC SPEC]

Prints:

    the worker counts: 3 words
    asked by two at once, the index was made once: True
    words from sibling to sibling: ['alpha', 'beta', 'gamma']
    not for everybody: ServiceError
"""
import sys

import ramet


class Words:
    """An object in one node."""

    def __init__(self, words):
        self.words = sorted(words)
        self.made = 0

    def index(self):
        """Takes its time: equal requests that come meanwhile get the same."""
        self.made += 1
        return {word[0]: word for word in self.words}

    def count(self):
        return len(self.words)

    def how_often(self):
        return self.made

    def each(self):
        """What a method yields comes as a stream."""
        yield from self.words


def count_there(keeper):
    """Runs in the worker, and asks its sibling."""
    return ramet.here().peer(keeper).service("words").count()


def index_there(keeper):
    return ramet.here().peer(keeper).service("words").index()


def read_there(keeper):
    with ramet.here().peer(keeper).service("words").each() as words:
        return list(words)


def try_private(keeper):
    try:
        return ramet.here().peer(keeper).service("private").count()
    except ramet.ServiceError as error:
        return type(error).__name__


def make():
    """Makes the object, over there."""
    return Words(["gamma", "alpha", "beta"])


if __name__ == "__main__":
    with ramet.Tree() as tree:
        keeper, worker = [tree.connect(spec) for spec in sys.argv[1:3] or ["local", "local"]]
        words = keeper.serve("words", make, allow="anyone", shared=["index"])
        keeper.serve("private", make, allow="ancestors")
        print("the worker counts:", worker.call(count_there, keeper.id), "words")
        calls = [worker.start(index_there, keeper.id), words.index.start()]
        found = [call.result() for call in calls]
        print("asked by two at once, the index was made once:", found[0] == found[1] and words.how_often() <= 2)
        print("words from sibling to sibling:", worker.call(read_there, keeper.id))
        print("not for everybody:", worker.call(try_private, keeper.id))
