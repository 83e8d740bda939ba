"""What tests run in nodes about channels; loads on 2.7."""
import time

import ramet

KEPT = []


def echo(incoming, outgoing):
    for item in incoming:
        outgoing.send(item)
    outgoing.close()


def send_all(channel, items):
    for item in items:
        channel.send(item)
    return "sent"


def send_range(channel, first, count):
    for n in range(first, first + count):
        channel.send(n)


def arrived(channel):
    """How many items have come from other nodes, into the channel or before it."""
    return sum(intake.items for intake in channel._use().senders)


def receive(channel, many, seconds=60):
    return [channel.receive(timeout=seconds) for _ in range(many)]


def receive_all(channel):
    return list(channel)


def receive_and_drop(channel, many):
    """Takes some items, and lets the channel go."""
    return [channel.receive(timeout=60) for _ in range(many)]


def make(size=10):
    channel = ramet.here().channel(size)
    KEPT.append(channel)
    return channel


def make_and_send(size, items):
    channel = ramet.here().channel(size)
    for item in items:
        channel.send(item)
    return channel


def close(channel):
    channel.close()


def is_channel(thing):
    return [isinstance(thing, ramet.Channel), thing == thing, repr(thing)]


def error_of(channel, what):
    try:
        if what == "receive":
            channel.receive(timeout=60)
        end = time.time() + 60
        while time.time() < end:    # who holds it hasn't heard of the first one when that is on its way
            channel.send(1)
            time.sleep(0.01)
    except ramet.Error as error:
        return type(error).__name__
    return "no error"


def refused():
    """How much this node has refused so far."""
    from ramet.kernel import start
    return start.node.core.refused


def forge(owner, number, size=10):
    """A reference whose token was guessed."""
    from ramet.kernel import channels, start
    return error_of(channels.made(channels.of(start.node.core), [owner, number, "0" * 32, size]), "receive")


def send_raw(owner, body):
    from ramet.kernel import channels, start, values
    channels.of(start.node.core)
    start.node.core.send(owner, channels.CHANNEL, values.encode(body))
