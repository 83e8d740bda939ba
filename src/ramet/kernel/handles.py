"""Well-known handles of the late parts. Those of the core are in ``core``; docs/protocol.md has a section for each. Pure."""

SILENT = 20
REFUSED = 26
STUCK = 27

LINK = 0    # in an END, in place of a child's id: the link to who sends it
ITSELF = 0xffffffff     # in place of a node's id, where it sends to itself: no node has this number
