"""What ``controller.py`` asks a node, of any Python: which of its modules came over the wire, which native ones are there."""
import sys


def modules(natives):
    """The top-level modules from the controller; and those of the native modules that are imported."""
    files = ((name, str(getattr(sys.modules[name], "__file__", None))) for name in list(sys.modules))
    came = {name.partition(".")[0] for name, file in files if file.startswith("ramet:")}
    return sorted(came - {"ramet", "over_there"}), [name for name in natives if sys.modules.get(name)]
