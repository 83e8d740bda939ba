"""A module that imports ``logging`` at its top: the hook for that sees it with the first call."""
import logging
import os


def pid():
    logging.getLogger("app").warning("from the first call on")
    return os.getpid()
