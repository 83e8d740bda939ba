"""What stands for a service of another node: an object whose methods are requests to it. Late part of the kernel, and the
controller's.

Making one asks nobody: whether there is such a service, and such a method, turns out at the first request. What it looks like
(help, signatures, ``dir``) is asked for when somebody wants to know. Any thread; requests block.
"""
MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional


SERVICE = 21            # well-known handle: [service, method or None, args, kwargs]
NONE = b"refused: 21"   # what a node says that has no services at all: it knows no such handle


class Method(object):
    """One method of a service: call it.

    Attributes:
        __doc__, __signature__: as over there; asked for when they are looked at.
    """

    def __init__(self, service, name):
        # type: (ServiceProxy, str) -> None
        self._service = service
        self.__name__ = name
        self.__qualname__ = "%s.%s" % (service._name, name)

    def __call__(self, *args, **kwargs):
        # type: (*Any, **Any) -> Any
        """Send the request and wait for its result."""
        return self._service._request(self.__name__, args, kwargs)

    def __getattribute__(self, name):
        # type: (str) -> Any
        if name == "__doc__":
            return self._service._described(self.__name__)[0]
        return object.__getattribute__(self, name)

    @property
    def __signature__(self):
        # type: () -> Any
        return signature(self._service._described(self.__name__)[1])

    def __repr__(self):
        # type: () -> str
        return "<method %s of %s>" % (self.__qualname__, self._service._where)


class ServiceProxy(object):
    """A service of another node.

    Args:
        request: sends (method or None, args, kwargs) and waits for the result.
    """

    Method = Method

    def __init__(self, name, where, request):
        # type: (str, str, Callable[[Optional[str], Any, Any], Any]) -> None
        self._name = name
        self._where = where
        self._request = request
        self._known = None  # type: Optional[Dict[str, List[Any]]]

    def __getattr__(self, name):
        # type: (str) -> Any
        if name[:1] == "_":
            raise AttributeError(name)
        method = self.__dict__[name] = self.Method(self, name)
        return method

    def __dir__(self):
        # type: () -> List[str]
        return sorted(self._about())

    def _about(self):
        # type: () -> Dict[str, List[Any]]
        if self._known is None:
            self._known = self._request(None, (), {})
        return self._known

    def _described(self, name):
        # type: (str) -> List[Any]
        if name not in self._about():
            raise AttributeError("the service %s of %s has no method %s" % (self._name, self._where, name))
        return self._about()[name]

    def __repr__(self):
        # type: () -> str
        return "<service %s of %s>" % (self._name, self._where)


class Shown(object):
    """Stands for a default over there: only its text is known."""

    def __init__(self, text):
        # type: (str) -> None
        self.text = text

    def __repr__(self):
        # type: () -> str
        return self.text


def signature(parameters):
    # type: (Any) -> Any
    """An ``inspect.Signature`` of what ``services.parameters`` told; None where that Python or this one has none."""
    try:
        import inspect
        kinds = list(inspect._ParameterKind)
    except (ImportError, AttributeError):
        return None
    if parameters is None:
        return None
    return inspect.Signature([
        inspect.Parameter(name, kinds[kind], default=inspect.Parameter.empty if default is None else Shown(default))
        for name, kind, default in parameters])
