"""Log records of a node: hooked when ``logging`` is imported, in every interpreter."""
from __future__ import annotations

import ast
import logging
from typing import Any

import pytest

from support import kernel_shim, pythons

pytestmark = pytest.mark.parametrize("python", [pytest.param(path, id=label) for label, path in pythons.interpreters()])

HOOKED = """
import sys
from ramet.kernel import output
sent = []
BEFORE
class Core(object):
    def send(self, dst, handle, chunks, reply_to, flags, flow):
        from ramet.kernel import core, values
        assert (dst, handle, reply_to, flags) == (0, core.LOG, 0, 0)
        sent.append(values.decode(b"".join(map(bytes, chunks))))
hook = output.LogHook(Core(), 20)
"""


def records(python: str, code: str, before: str = "") -> list[dict[str, Any]]:
    said = kernel_shim.run(python, HOOKED.replace("BEFORE", before) + code + "\nprint(repr(sent))\n")
    found: list[dict[str, Any]] = ast.literal_eval(said)
    return found


def test_records_travel_with_all_that_is_plain(python: str) -> None:
    code = """
import logging
log = logging.getLogger("a.b")
log.debug("not made: %s", 1)
log.info("%s and %r", u"\\xe9", [1])
log.error("plain", extra={"job": 7, "odd": object(), "kinds": [2, 1]})
"""
    first, second = records(python, code)
    assert (first["levelno"], first["levelname"], first["name"], first["msg"]) == (20, "INFO", "a.b", "\xe9 and [1]")
    assert first["lineno"] > 0 and first["pathname"] and isinstance(first["created"], float) and "args" not in first
    assert second["job"] == 7 and second["odd"].startswith("<object")
    assert logging.Formatter("%(kinds)s").format(logging.makeLogRecord(second)) == "[2, 1]"
    assert logging.makeLogRecord(first).getMessage() == "\xe9 and [1]"


def test_values_of_other_classes_travel_as_what_they_are(python: str) -> None:
    code = """
import logging
class Text(type(u"")):
    def __str__(self):
        return self
class Number(int):
    def __repr__(self):
        return "a number"
class Share(float):
    pass
class Odd(object):
    def __repr__(self):
        return Name("odd")
class Name(str):
    pass
extra = {"text": Text(u"\\xe9"), "name_": Name("x"), "number": Number(7), "share": Share(0.5), "odd": Odd(), "yes": True}
log = logging.getLogger("a")
log.log(Number(30), Text(u"\\xe9 %s"), Text(u"\\xe8"), extra=extra)
log.warning(Text(u"alone"))
"""
    first, second = records(python, code)
    assert {key: first[key] for key in ("text", "name_", "number", "share", "odd", "yes")} == {
        "text": "\xe9", "name_": "x", "number": 7, "share": 0.5, "odd": "odd", "yes": True}
    assert (first["levelno"], first["msg"], second["msg"]) == (30, "\xe9 \xe8", "alone")


def test_what_the_controller_would_not_take_is_not_sent(python: str) -> None:
    code = "import logging, sys\nsys.stderr = None\nlogging.warning('x', extra={'n': 1 << (9 << 20)})\nlogging.warning('next')"
    assert [record["msg"] for record in records(python, code)] == ["next"]


def test_tracebacks_travel_as_text(python: str) -> None:
    record, = records(python, "import logging\ntry: 1 / 0\nexcept Exception: logging.exception('failed')")
    assert record["msg"] == "failed" and "ZeroDivisionError" in record["exc_text"] and "1 / 0" not in record["msg"]


def test_the_longest_texts_are_cut_where_the_controller_would_refuse_the_record(python: str) -> None:
    code = """
import logging
logging.error(u"\\U0001f331" * 500000, extra={"more": "y" * 600000, "some": "z" * 1000})
sent = [dict((key, len(sent[0][key])) for key in ("msg", "more", "some")), sum(map(len, values.encode(sent[0]))) < 1 << 20]
"""
    lengths, fits = records(python, "from ramet.kernel import values" + code)
    assert fits and lengths["some"] == 1000 and min(lengths["msg"], lengths["more"]) >= 99_000


def test_logging_is_not_imported_for_it(python: str) -> None:
    look = "print([name for name in ('logging', 'ramet.kernel.logs') if name in sys.modules])"
    assert kernel_shim.run(python, HOOKED.replace("BEFORE", "") + look).strip() == "[]"


def test_it_was_imported_before(python: str) -> None:
    code = "hook.find_module('logging')\nlogging.warning('here')"
    record, = records(python, code, before="import logging")
    assert record["msg"] == "here"


def test_finder_goes_when_it_was_needed(python: str) -> None:
    said = kernel_shim.run(python, HOOKED.replace("BEFORE", "") + "import json, logging.handlers\nprint(hook in sys.meta_path)")
    assert said.strip() == "False"


def test_an_import_that_fails_first_is_hooked_the_next_time(python: str) -> None:
    """As one that is interrupted with its call. Its node's records never travelled."""
    code = """
import weakref
sys.modules["weakref"] = None
for _ in range(2):
    try:
        import logging
    except ImportError:
        pass
    else:
        raise AssertionError
    assert sys.meta_path[0] is hook and sys.meta_path.count(hook) == 1
sys.modules["weakref"] = weakref
import logging
logging.warning("here")
assert hook not in sys.meta_path
"""
    record, = records(python, code)
    assert record["msg"] == "here"


def test_an_import_that_fails_when_it_is_hooked_is_hooked_the_next_time(python: str) -> None:
    code = """
from ramet.kernel import logs
begin = logs.begin
del logs.begin
for _ in range(2):
    try:
        import logging
    except NameError:
        pass
    else:
        raise AssertionError
logs.begin = begin
import logging
logging.warning("here")
"""
    record, = records(python, code)
    assert record["msg"] == "here"


def test_module_is_as_ever(python: str) -> None:
    look = "import logging, sys; print((logging.__name__, logging.__file__, str(getattr(logging, '__spec__', None))[:30]))"
    assert kernel_shim.run(python, HOOKED.replace("BEFORE", "") + look) == kernel_shim.run(python, look)


def test_broken_records_harm_nothing(python: str) -> None:
    code = "import logging\nlogging.raiseExceptions = False\nlogging.warning('%d', 'no number')\nlogging.warning('next')"
    assert [record["msg"] for record in records(python, code)] == ["next"]
