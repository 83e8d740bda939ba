"""Loads ``src/ramet/kernel`` as ``ramet.kernel`` on any Python, without running ``src/ramet/__init__.py``.

The package's own ``__init__`` needs Python 3.10; the kernel must run on 2.7 and 3.6. As a module (2.7 too)::

    import kernel_shim; kernel_shim.install()
    from ramet.kernel import frames

as a program, to run code with the kernel importable::

    python2.7 tests/support/kernel_shim.py -c "from ramet.kernel import frames; print(frames)"
    python2.7 tests/support/kernel_shim.py script.py arg ...

and from a test: ``kernel_shim.run(path_of_python, code)`` gives what the code printed, and fails with its stderr.
"""
import os
import sys
import types

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src", "ramet")
SOURCE = os.path.normpath(SOURCE)


def install():
    # type: () -> None
    """Make ``import ramet.kernel.X`` work. Does nothing where ``ramet`` is imported already."""
    if "ramet" in sys.modules:
        return
    sys.dont_write_bytecode = True  # 2.7 would put its .pyc beside the sources
    package = types.ModuleType("ramet")
    package.__path__ = [SOURCE]
    sys.modules["ramet"] = package


def run(python, code, args=(), timeout=150):
    # type: (str, str, tuple[str, ...] | list[str], float) -> str
    """Run code on another interpreter with the kernel importable, and give what it wrote to stdout. Modern Python only.

    Raises:
        AssertionError: it ended with another status than 0; the text holds its stderr.
    """
    import subprocess  # not in the other interpreter: it imports threading
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env["PYTHONIOENCODING"] = "utf-8"
    argv = [python, os.path.abspath(__file__), "-c", code]
    done = subprocess.run(argv + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=env, timeout=timeout)
    stderr = done.stderr.decode("utf-8", "replace")
    if done.returncode:
        raise AssertionError("%s ended with status %d:\n%s" % (python, done.returncode, stderr))
    return done.stdout.decode("utf-8")


def main(argv):
    # type: (list[str]) -> None
    """Run ``-c CODE`` or a script file with the rest of argv as its arguments."""
    install()
    if argv[0] == "-c":
        code, name = argv[1], "<kernel_shim -c>"
        sys.argv = ["-c"] + argv[2:]
    else:
        name = argv[0]
        with open(name) as f:
            code = f.read()
        sys.argv = argv
        sys.path.insert(0, os.path.dirname(os.path.abspath(name)))
    main_module = sys.modules["__main__"].__dict__
    main_module["__file__"] = name
    exec(compile(code, name, "exec"), main_module)


if __name__ == "__main__":
    main(sys.argv[1:])
