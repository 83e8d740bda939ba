"""Well-known handles of the late parts. Those of the core are in ``core``; docs/protocol.md has a section for each. Pure."""

SILENT = 20
REFUSED = 26
STUCK = 27

LINK = 0    # in an END, in place of a child's id: the link to who sends it
