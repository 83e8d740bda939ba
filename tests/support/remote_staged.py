"""What tests of staged packages call in nodes, of any Python."""
import os
import sys


def about(name):
    """Where a package is over there, and what it reads beside its modules."""
    module = __import__(name)
    return [module.__file__, module.read(), sorted(name for name in os.listdir(os.path.dirname(module.__file__))
                                                   if name[:2] != "__" or name == "__init__.py")]


def files_of(name):
    """What is there of a package that can't read what it wants to."""
    return [file for file in os.listdir(os.path.dirname(__import__(name).__file__)) if file != "__pycache__"]


def modes(path):
    """The permissions and owners of a folder and all above it that are ramet's."""
    found = []
    while "ramet-" in path:
        info = os.stat(path)
        found.append([oct(info.st_mode & 0o777)[-3:], info.st_uid == os.getuid()])
        path = os.path.dirname(path)
    return found


def version_of(name):
    """By the metadata that are over there."""
    import importlib.metadata
    return importlib.metadata.version(name)


def use_yaml():
    """Whether its native part is used, and what it reads."""
    import yaml
    return yaml.__with_libyaml__, yaml.safe_load("a: [1, 2]"), yaml.__file__


def set_temporary(path):
    """Where temporary folders are made from now on."""
    os.environ["TMPDIR"] = path
    os.access = lambda place, mode: place == path


def fork_that_stays(seconds):
    """A child of the node's that outlives a call and has a session of its own. Its pid."""
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            import time
            time.sleep(seconds)
        finally:
            os._exit(0)
    return pid


def paths():
    """The import path."""
    return list(sys.path)
