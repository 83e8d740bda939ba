"""What tests call in nodes that lack most of the standard library: only ``os`` and ``sys`` are imported at its top."""
import os
import sys

from support import remote_part


def work():
    return remote_part.answer()


def fail():
    raise KeyError("missing")


def has(names):
    """Which modules can be imported here."""
    found = []
    for name in names:
        try:
            __import__(name)
        except ImportError:
            continue
        found.append(name)
    return found


def say(text):
    print(text)
    return text


def log(text):
    import logging
    logging.getLogger("small").warning(text)


def run(argv):
    import subprocess
    return subprocess.call(argv)


def can_write(path):
    """None, or why a file can't be made there."""
    try:
        os.close(os.open(os.path.join(path, "ramet-was-here"), os.O_CREAT | os.O_WRONLY))
    except OSError as error:
        return error.errno
    os.unlink(os.path.join(path, "ramet-was-here"))
    return None


def echo(value):
    return value


def where(module):
    return getattr(__import__(module), "__file__", None)


def inside():
    """What this interpreter is like."""
    flags = dict((name, getattr(sys.flags, name, None)) for name in
                 ("optimize", "utf8_mode", "isolated", "ignore_environment", "no_site", "no_user_site", "dev_mode"))
    return {
        "executable": sys.executable, "prefix": sys.prefix, "base_prefix": getattr(sys, "base_prefix", None), "argv": sys.argv,
        "exec_prefix": sys.exec_prefix, "flags": flags, "asserts": __debug__, "warnings": list(sys.warnoptions),
        "encodings": [sys.getfilesystemencoding(), sys.getdefaultencoding()], "path": [p for p in sys.path if p],
        "cwd": os.getcwd(), "home": os.environ.get("HOME"),
    }


def print_inside():
    """The same for a program on stdin."""
    sys.stdout.write(repr(inside()))
