"""What test_guests_streams.py serves to guests, and what it asks of nodes. Python 2.7 and newer."""
import threading
import time

import ramet

MADE = []       # sizes of items that were made for streams
CLOSED = []     # of generators
GATE = threading.Event()
KEPT = {}


class Desk(object):
    """Yields, takes channels, and gives them."""

    def rows(self, to, size=0):
        for n in range(to):
            yield (n, b"x" * size) if size else n

    def many(self, size):
        """For ever; counts what it makes."""
        try:
            while True:
                MADE.append(size)
                yield b"x" * size
        finally:
            CLOSED.append("many")

    def hangs(self):
        try:
            yield 1
            while not GATE.is_set():
                time.sleep(0.001)
        finally:        # it may be left at any step
            CLOSED.append("hangs")

    def fails(self):
        yield 1
        raise KeyError("no more")

    def made(self):
        return sum(MADE)

    def closed(self):
        return list(CLOSED)

    # channels

    def keep(self, name, size=1000):
        """One of this node's channels."""
        if name not in KEPT:
            KEPT[name] = ramet.here().channel(size)
        return KEPT[name]

    def take(self, name, channel):
        """Keep one that comes as an argument."""
        KEPT[name] = channel

    def kept(self, name):
        return KEPT[name]

    def forget(self, name):
        del KEPT[name]

    def put(self, name, items):
        for item in items:
            KEPT[name].send(item)

    def get(self, name, count):
        return [KEPT[name].receive() for _ in range(count)]

    def rest(self, name):
        return list(KEPT[name])

    def close(self, name):
        KEPT[name].close()

    def is_kept(self, name, channel):
        """Is it the same?"""
        return KEPT[name] == channel

    def swap(self, channel, pairs):
        """Channels anywhere in arguments, and in a result."""
        for n, one in enumerate(pairs["deep"]):
            one[0].send(n)
        return {"first": channel, "rest": [pair[0] for pair in pairs["deep"]], "big": b"y" * 100000}

    def in_items(self, name):
        yield 1
        yield [KEPT[name]]

    def how_it_ends(self, name):
        """What receiving comes to."""
        try:
            return list(KEPT[name])
        except ramet.Error as error:
            return "%s: %s" % (type(error).__name__, error)

    def outcome_of_send(self, name, timeout):
        """What sending comes to."""
        try:
            KEPT[name].send(1, timeout=timeout)
        except ramet.Error as error:
            return type(error).__name__
        return "sent"

    def wait_for_ever(self):
        while not GATE.is_set():
            time.sleep(0.001)

    def large(self, size):
        return b"x" * size


def holds():
    """What is kept at this node of channels and streams: those that it holds, and others' parts in them."""
    from ramet.kernel import channels, start
    ours = channels.of(start.node.core)
    held = list(ours.held.values())
    return [len(held), sum([len(one.senders) + len(one.receivers) + len(one.told) + len(one.left) for one in held]),
            len(ours.streams.intakes), len(ours.streams.feeds)]


def door_has():
    """What a door keeps for its guests."""
    from ramet.kernel import start
    door = start.node.door
    rooms = list(door.rooms.values())
    return [len(door.side.channels.elsewhere), len(door.side.streams.intakes), len(door.side.streams.feeds),
            sum([len(room.asked) for room in rooms]), sum([room.width() for room in rooms])]


def door_refused():
    """How often each guest's room has refused something; and how often the door."""
    from ramet.kernel import start
    return [room.core.refused for room in start.node.door.rooms.values()], start.node.core.refused


def messages_in():
    """How many messages have come to this node."""
    from ramet.kernel import start
    return start.node.core.messages_in


def waits_unread():
    """The most that lies at the door for one guest."""
    from ramet.kernel import start
    return max([room.link.queue.size for room in start.node.door.rooms.values()])


def put_many(name):
    """As much as there is room for."""
    try:
        while True:
            KEPT[name].send(b"x" * 100000, timeout=0)
    except ramet.CallTimeout:
        pass


def closed_here():
    return list(CLOSED)


def how_it_ends_here(name):
    return Desk().how_it_ends(name)


def has_it(name):
    return name in KEPT


def give_it(name, item):
    KEPT[name].send(item)


def make_one():
    KEPT["one"] = ramet.here().channel()
    return KEPT["one"]


def refused_here():
    """What this node has dropped, since it broke the rules."""
    from ramet.kernel import start
    return start.node.core.refused


def known_as(name):
    """What a channel is known by, here."""
    return KEPT[name].parts()


def made_here():
    return sum(MADE)


def bytes_in():
    """What has come over the link to the parent."""
    from ramet.kernel import start
    return start.node.core.routes.parent.bytes_in


def names_kept():
    return sorted(KEPT)


def put_here(name, count):
    """What sending so many comes to."""
    try:
        for n in range(count):
            KEPT[name].send(n)
    except ramet.Error as error:
        return type(error).__name__
    return "sent"
