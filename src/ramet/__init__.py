"""ramet (names follow when all parts are there)."""
