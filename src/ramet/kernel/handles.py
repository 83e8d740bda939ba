"""Well-known handles of the late parts. Those of the core are in ``core``; docs/protocol.md has a section for each. Pure."""

SILENT = 20
REFUSED = 26
STUCK = 27
