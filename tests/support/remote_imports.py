"""Functions that tests call in nodes, about what imports there, on every Python from 2.7 on."""
import sys


def waiting():
    """How many threads wait in the import system, for what another one imports."""
    return sum(frame.f_code.co_filename[:17] == "<frozen importlib" for frame in sys._current_frames().values())


def load(name):
    """Import a module, where that can be interrupted; the module of the function that is called is imported before."""
    __import__(name)


def old():
    """Whether there is one lock for all imports, for which also who only looks would have to wait."""
    return sys.version_info[0] == 2


def part(name, source):
    """Let this node have another part of ramet."""
    [finder] = [one for one in sys.meta_path if getattr(one, "front", False)]
    finder.cache.add("source", [["ramet.kernel." + name, 0, "ramet/kernel/%s.py" % name, source]], {})


def word(name):
    """A part's word, as ramet itself imports its parts in the user's calls."""
    return getattr(__import__("ramet.kernel", None, None, [name]), name).WORD


def patience(seconds):
    """For how long imports aren't interrupted in this node."""
    from ramet.kernel import cancelling
    cancelling.import_grace_s = seconds


def word_of(name):
    """A module's word, by an import statement."""
    space = {}
    exec("from %s import WORD" % name, space)
    return space["WORD"]
