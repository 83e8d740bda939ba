"""A receiver that leaves a channel while that is closed. Without processes."""

from __future__ import annotations

from ramet.kernel import channels, loop_late, values
from ramet.kernel.core import Core, Message
from ramet.kernel.ends import BACK, CHANNEL
from ramet.kernel.loop import Loop


def test_who_leaves_a_channel_that_is_over_isnt_refused() -> None:
    """Both were right: but the controller said that something was refused."""
    loop = Loop(lambda error: None)
    core = Core(0, [], loop)
    core.descendants = True
    ours = channels.of(core)
    channel = ours.open(10)
    channel.close()
    assert not ours.held
    ours.on_channel(Message(5, 5, CHANNEL, 0, 1, None, b"".join(values.encode([BACK, channel.number, channel.token, 2]))))
    loop_late.close(loop)
