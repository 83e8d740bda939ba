"""Routing: whose word is believed, and who hears of a loss."""

from typing import Any

from ramet.kernel.descent import Descendants
from ramet.kernel.routing import Routes

PARENT, LEFT, RIGHT = "parent", "left", "right"


def routes() -> Routes:
    """Node 5 below 2 below the controller; 6 and 8 behind LEFT, 7 behind RIGHT."""
    found = Routes(5, [2, 0])
    found.parent = PARENT
    for id, link in ((6, LEFT), (8, LEFT), (7, RIGHT)):
        Descendants(found).add(id, link, 5)
    return found


def descendants() -> Descendants:
    """The same, and 8 was grown by 6."""
    found = Descendants(routes())
    for id, link, parent in ((6, LEFT, 5), (8, LEFT, 6), (7, RIGHT, 5)):
        found.add(id, link, parent)
    return found


def test_only_who_is_on_the_way_knows_of_a_nodes_fate() -> None:
    found = descendants()
    assert found.above(6, 8)
    assert not any(found.above(one, other) for one, other in ((8, 6), (7, 6), (6, 7), (8, 8), (6, 99)))


def test_down_where_a_route_covers_up_otherwise() -> None:
    assert [routes().link_to(id) for id in (6, 8, 7, 2, 0, 99)] == [LEFT, LEFT, RIGHT, PARENT, PARENT, PARENT]
    assert Routes(0).link_to(1) is None


def test_a_source_is_believed_only_from_its_own_link() -> None:
    found = routes()
    assert found.behind(6, LEFT) and found.behind(0, PARENT) and found.behind(99, PARENT)
    assert not found.behind(6, RIGHT)       # a sibling's name
    assert not found.behind(0, LEFT)        # the controller's name, from below
    assert not found.behind(6, PARENT)      # a descendant's name, from above
    assert not found.behind(5, PARENT) and not found.behind(5, LEFT)    # our own name
    assert not found.behind(99, LEFT)       # a node that nobody announced


def test_only_ancestors_and_the_node_itself_command() -> None:
    assert [routes().commands(id) for id in (0, 2, 5, 6, 7, 99)] == [True, True, True, False, False, False]


def test_a_loss_is_told_to_those_who_talked() -> None:
    found = descendants()
    found.talked(7, 6)      # siblings
    found.talked(0, 8)      # an ancestor: it is told of every loss
    found.talked(8, 6)      # both will be lost
    assert found.lose([6, 8], LEFT) == {7}
    assert found.routes.down == {7: RIGHT}
    assert found.talkers == {7: set()}


def test_a_node_may_be_lost_just_as_it_becomes_known() -> None:
    """Its link, by the keeper; and while another thread learns of its children."""
    class Down(dict[int, Any]):
        def __setitem__(self, id: int, link: Any) -> None:
            super().__setitem__(id, link)
            lost.append(found.lose(found.behind(link), link))

    class Child(int):
        def __hash__(self) -> int:
            if walked:
                found.children[6][len(found.children[6]) + 100] = True
            return int(self)
    lost: list[set[int]] = []
    found = descendants()
    found.routes.down = Down()
    found.add(9, LEFT, 5)
    assert lost == [set()] and 9 not in found.parents
    walked: list[bool] = []
    found.children[6] = {Child(8): True}
    walked.append(True)
    assert 8 in found.with_all_below([6])


def test_a_link_cannot_announce_losses_behind_another() -> None:
    found = descendants()
    found.talked(6, 7)
    assert found.lose([7, 2, 0], LEFT) == set()
    assert found.routes.link_to(7) == RIGHT and found.talkers == {7: {6}, 6: {7}}


def test_who_talks_to_nobody_known_is_not_remembered() -> None:
    found = descendants()
    for number in range(100, 200):
        found.talked(6, number)
        found.talked(number, 7)
    assert found.talkers == {}
