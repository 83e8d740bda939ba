"""Fair queueing: control first, flows in turn, order inside a flow."""

from hypothesis import given
from hypothesis import strategies as st

from ramet.kernel.credit import CreditQueue
from ramet.kernel.flow import FairQueue
from ramet.kernel.frames import CONTROL


def drain(queue: FairQueue) -> list[bytes]:
    found = []
    while frame := queue.take(1):
        found.append(frame)
    return found


def test_one_flow_waits_for_one_frame_of_another_at_most() -> None:
    queue = FairQueue()
    for number in range(100):
        queue.push((0, 1, 0), 0, b"bulk%d" % number)
    queue.push((0, 1, 7), 0, b"call")
    assert queue.take(1) == b"bulk0"
    assert queue.take(1) == b"call"
    assert queue.take(9) == b"bulk1bulk2"


def test_control_overtakes_everything() -> None:
    """Also where some of it is under credit."""
    for queue in FairQueue(), CreditQueue(FairQueue(), lambda: 0.0, lambda link, flow: None):
        queue.push((0, 1, 0), 0, b"data")
        queue.push((0, 1, 0), CONTROL, b"control")
        assert drain(queue) == [b"control", b"data"]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 50))))
def test_nothing_is_lost_and_flows_keep_their_order(pushes: list[tuple[int, bool, int]]) -> None:
    queue = FairQueue()
    expected: dict[object, list[bytes]] = {}
    for number, (flow, control, size) in enumerate(pushes):
        frame = b"%d:" % number + b"." * size
        queue.push((0, 1, flow), CONTROL * control, frame)
        expected.setdefault("control" if control else flow, []).append(frame)
    assert queue.size == sum(len(frame) for frames in expected.values() for frame in frames)
    popped = drain(queue)
    assert queue.size == 0 and not queue.flows and not queue.turns
    for frames in expected.values():
        assert [frame for frame in popped if frame in frames] == frames
