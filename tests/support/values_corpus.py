"""Values to be sent from every Python to every other, and how to compare them there. Runs on 2.7 and 3.6+.

As a program: ``dump`` writes a JSON object {case: hex of the encoded value} of the cases that this Python can make, on
stdout; ``load FILE ...`` reads such objects and writes for each {case: what is wrong with it}: empty if all is well.
``echo`` reads lines of hex, and writes for each the value encoded anew, or "refused: ..." if this Python has no such type.
"""
# ruff: noqa: UP003, UP025, SIM905
import binascii
import json
import sys

NAMES = {}  # what the cases' expressions may use

#: Expressions; a Python that can't evaluate one has no such type, and must refuse it.
CASES = """
None
True
False
0
-1
127
128
-32
-33
-128
-129
255
256
65535
65536
-32769
2 ** 32 - 1
2 ** 32
-2 ** 31 - 1
2 ** 63
2 ** 64 - 1
2 ** 64
-2 ** 63
-2 ** 63 - 1
10 ** 50
-10 ** 5000
0.0
-0.0
1.5
float("inf")
float("-inf")
float("nan")
1e-320
1.5 - 2j
u""
u"a" * 31
u"a" * 32
u"a" * 255
u"a" * 256
u"a" * 65536
u"\\xe9\\u20ac\\U0001f600\\x00"
u"\\ud800"
u"\\udc80x\\udcff"
u"\\ud7ff\\uac00"
B(b"")
B(b"\\x00\\xff" * 10)
B(b"x" * 255)
B(b"x" * 256)
B(b"x" * 70000)
bytearray(b"\\x00\\xff")
bytearray(70000)
[]
[[], [[]], [None]]
list(range(15))
list(range(16))
list(range(65536))
()
(1, [2, (3,)], {4: ()})
{}
dict((n, str(n)) for n in range(16))
dict((u"k%d" % n, n) for n in range(65536))
{u"a": {1: 2, None: 3, True: 4, 1.5: 5, B(b"x"): 6, (1, (2, u"b")): 7, frozenset([8]): 9, 1j: 10}}
set()
set([1, u"a", (2, 3), None])
frozenset([1, frozenset([2])])
[set([frozenset([1]), (1, frozenset())]), (set(),)]
OrderedDict([(3, 1), (1, 2)])
defaultdict(list, {1: [2]})
defaultdict(None, {1: 2})
Counter(u"banana")
deque([1, [2]], 5)
deque()
date(2024, 2, 29)
date.max
time(1, 2, 3, 4)
time.max
datetime(1, 1, 1)
datetime(2024, 2, 29, 23, 59, 59, 999999)
datetime(2024, 10, 27, 2, 30, fold=1)
timedelta(-5, 3, 7)
timedelta.max
timezone.utc
timezone(timedelta(0, -34200), u"odd")
timezone(timedelta(hours=5, minutes=30))
datetime(2024, 7, 1, tzinfo=timezone.utc)
time(12, tzinfo=timezone(timedelta(hours=-1)))
datetime(2024, 7, 1, tzinfo=ZoneInfo("UTC"))
UUID(int=2 ** 127 + 5)
Decimal("1.10")
Decimal("-Infinity")
Decimal("sNaN123")
Decimal("1E-28")
Fraction(-22, 7)
PurePosixPath(u"/a/\\xe9/../b")
PureWindowsPath(u"C:\\\\x\\\\y")
PosixPath(u"relative")
ip_address(u"127.0.0.1")
ip_address(u"fe80::1")
ip_network(u"10.0.0.0/8")
ip_interface(u"10.1.2.3/8")
ip_network(u"2001:db8::/32")
range_type(1, 10, 3)
slice(1, None, u"x")
Color.RED
Number.TWO
Bits.A | Bits.C
Bits(0)
{Color.RED: [Number.TWO]}
Point(1, [2])
{Point(1, 2): 3}
Deep.Inner(u"x")
Record(u"a", [1])
Frozen(5)
Slotted(1, 2)
ValueError(u"x", 1)
KeyError((1, 2))
OSError(5, u"broken", u"/x")
UnicodeDecodeError("utf-8", B(b"\\xff"), 0, 1, "bad")
StopIteration(5)
SystemExit(3)
Oops(u"a", code=7)
chained()
stat_result(range(10))
struct_time((2024, 2, 29, 1, 2, 3, 3, 60, 0))
completed([u"ls"], 1, B(b"out"), None)
"""
#: What 2.7's programs have besides: expression there, and what it is elsewhere.
CASES_27 = {
    '"plain"': 'u"plain"',
    '"caf\\xc3\\xa9"': 'u"caf\\xe9"',
    '"caf\\xe9"': 'u"caf\\udce9"',
    '"\\xed\\xb2\\x80 \\xed\\x9f\\xbf \\xed\\xff\\xed"': 'u"\\udced\\udcb2\\udc80 \\ud7ff \\udced\\udcff\\udced"',
    '"\\xf0\\x9f\\x98"': 'u"\\udcf0\\udc9f\\udc98"',
    "xrange(3)": "range(3)",
    "5L": "5",
}
MODERN = '''
import dataclasses
@dataclasses.dataclass
class Record:
    name: str
    items: list = dataclasses.field(default_factory=list)
    def __post_init__(self):
        RAN.append("post_init")
@dataclasses.dataclass(frozen=True)
class Frozen:
    n: int
@dataclasses.dataclass
class Slotted:
    __slots__ = ("a", "b")
    a: int
    b: int
'''
RAN = []


def _imports():
    wanted = {
        "collections": "OrderedDict defaultdict Counter deque namedtuple", "datetime": "date time datetime timedelta timezone",
        "zoneinfo": "ZoneInfo", "uuid": "UUID", "decimal": "Decimal", "fractions": "Fraction",
        "pathlib": "PurePosixPath PureWindowsPath PosixPath", "ipaddress": "ip_address ip_network ip_interface",
        "enum": "Enum IntEnum IntFlag", "os": "stat_result",
    }
    for module, names in wanted.items():
        try:
            __import__(module)
        except ImportError:
            continue
        for name in names.split():
            if hasattr(sys.modules[module], name):
                NAMES[name] = getattr(sys.modules[module], name)
    import subprocess
    from time import struct_time

    from ramet.kernel import compat
    NAMES.update(B=compat.Bytes, range_type=getattr(sys.modules[int.__module__], "xrange", range), struct_time=struct_time)
    if hasattr(subprocess, "CompletedProcess"):
        NAMES["completed"] = subprocess.CompletedProcess


def _classes():
    here = globals()
    if "Enum" in NAMES:
        here["Color"] = NAMES["Enum"]("Color", "RED GREEN", module=__name__)
        here["Number"] = NAMES["IntEnum"]("Number", "ONE TWO", module=__name__)
        here["Bits"] = NAMES["IntFlag"]("Bits", "A B C", module=__name__)
    here["Point"] = NAMES["namedtuple"]("Point", "x y")
    Point.__module__ = __name__  # noqa: F821
    if "timezone" in NAMES:
        here["Deep"] = type("Deep", (), {"__module__": __name__})
        Deep.Inner = NAMES["namedtuple"]("Inner", "t")  # noqa: F821
        Deep.Inner.__module__, Deep.Inner.__qualname__ = __name__, "Deep.Inner"  # noqa: F821
    try:
        exec(MODERN, here)
    except (ImportError, SyntaxError):
        pass
    for name in "Color Number Bits Point Deep Record Frozen Slotted Oops chained".split():
        if name in here:
            NAMES[name] = here[name]


class Oops(Exception):
    """An exception whose constructor can't be called with its args alone."""

    def __init__(self, text, code):
        Exception.__init__(self, text)
        self.code = code
        RAN.append("init")


def chained():
    """An exception with a cause, a context and a note, where there is such a thing."""
    error = ValueError("outer")
    if hasattr(error, "__cause__"):
        error.__cause__ = KeyError("cause")
        error.__context__ = OSError(1, "context")
        error.__notes__ = ["a note"]
        return error
    raise NotImplementedError


def shown(value):
    """A text that is the same for the same value on every Python, and differs with its type."""
    kind = type(value)
    name = kind.__name__
    name = {"unicode": "text", "str": "text", "Bytes": "bytes", "long": "int", "xrange": "range"}.get(name, name)
    if name == "text":
        if not isinstance(value, type(u"")):
            from ramet.kernel import compat
            value = compat.native_utf8(value).decode("utf-8")
        return "text %d %r" % (len(value), [ord(c) for c in value[:500]])
    if name in ("bytes", "bytearray"):
        return "%s %d %r" % (name, len(value), list(bytearray(value[:500])))
    if name == "int":
        return "int %x" % value
    if name in ("float", "complex", "bool", "NoneType"):
        return "%s %r" % (name, value)
    if name in ("set", "frozenset"):
        return "%s(%s)" % (name, ", ".join(sorted(map(shown, value))))
    if isinstance(value, dict):
        pairs = ["%s: %s" % (shown(k), shown(v)) for k, v in (value.items() if len(value) < 500 else [(len(value), 0)])]
        pairs = pairs if name == "OrderedDict" else sorted(pairs)
        return "%s %r {%s}" % (name, getattr(value, "default_factory", None), ", ".join(pairs))
    if name in ("list", "tuple", "deque", "Point", "Inner", "range"):
        items = value if len(value) < 500 else [len(value), sum(value)]
        return "%s %s(%s)" % (name, getattr(value, "maxlen", ""), ", ".join(map(shown, items)))
    if isinstance(value, BaseException):
        more = [getattr(value, key, None) for key in ("__cause__", "__context__")]
        own = {u"%s" % k: v for k, v in value.__dict__.items()}
        system = [getattr(value, key, None) for key in ("errno", "filename", "code", "value")]
        return "%s %s" % (name, shown([list(value.args), more, own, system]))
    if name in ("Record", "Frozen"):
        return "%s %s" % (name, shown(dict(value.__dict__)))
    if name == "Slotted":
        return "%s %s" % (name, shown([value.a, value.b]))
    if name == "slice":
        return "slice %s" % shown([value.start, value.stop, value.step])
    if name in ("datetime", "time"):
        return "%s %s %r %r" % (name, value.isoformat(), value.tzinfo, getattr(value, "fold", 0))
    if name in ("stat_result", "struct_time"):
        return "%s %s" % (name, shown(list(value)))
    if name == "CompletedProcess":
        return "%s %s" % (name, shown([value.args, value.returncode, value.stdout, value.stderr]))
    if name in ("Color", "Number", "Bits"):
        return "%s %r" % (name, value.value)
    return "%s %s" % (name, value)


def make(expression):
    """The value of an expression; None, False if this Python has none such."""
    try:
        return eval(expression, dict(NAMES)), True
    except (NameError, TypeError, NotImplementedError, SyntaxError):
        return None, False


def cases():
    """All expressions that every Python knows, if only as something that it can't make."""
    return [line for line in CASES.splitlines() if line]


def context(trusted):
    """What a receiver has that allows the classes of this file."""
    from ramet.kernel import values

    def find_class(module, name):
        if module != __name__:
            raise LookupError("not allowed: " + module)
        found = sys.modules[module]
        for part in name.split("."):
            found = getattr(found, part)
        return found
    return values.Context(trusted, find_class)


def dump():
    """{case: hex} of what this Python can make."""
    from ramet.kernel import values
    found = {}
    here = sys.version_info[0] == 2
    for expression in cases() + (list(CASES_27) if here else []):
        value, can = make(expression)
        if can:
            data = b"".join(values.encode(value))
            found[expression] = binascii.hexlify(data).decode("ascii")
    return found


def load(dumped):
    """What is wrong with the values of another Python."""
    from ramet.kernel import values
    from ramet.kernel.errors import ValueNotPortableError
    wrong = {}
    for expression, digits in dumped.items():
        here = expression if sys.version_info[0] == 2 else CASES_27.get(expression, expression)
        own, can = make(here)
        data = binascii.unhexlify(digits.encode("ascii"))
        for trusted in (True, False) if len(data) < 1000 else (False,):
            del RAN[:]
            try:
                value = shown(values.decode(data, context(trusted)))
            except ValueNotPortableError as error:
                value = "refused: %s" % error
            if RAN:
                value += " and code of a class ran: %s" % RAN
            if value != shown(own) if can else not value.startswith("refused"):
                wrong[expression] = [trusted, value[:300], shown(own)[:300] if can else "a refusal"]
    return wrong


def echo(digits):
    """The value of these hex digits, as this Python sends it back."""
    from ramet.kernel import values
    from ramet.kernel.errors import ValueNotPortableError
    try:
        value = values.decode(binascii.unhexlify(digits.encode("ascii")), context(True))
    except ValueNotPortableError as error:
        return "refused: %s" % (" ".join(str(error).split()))
    return binascii.hexlify(b"".join(values.encode(value))).decode("ascii")


def prepare():
    """Fill NAMES. The kernel must be importable."""
    if not NAMES:
        sys.modules.setdefault("values_corpus", sys.modules[__name__])
        _imports()
        _classes()


def main(argv):
    """Run as a program."""
    import kernel_shim
    kernel_shim.install()
    import values_corpus
    values_corpus.prepare()
    if argv[0] == "dump":
        json.dump(values_corpus.dump(), sys.stdout)
    elif argv[0] == "echo":
        for line in iter(sys.stdin.readline, ""):
            sys.stdout.write(values_corpus.echo(line.strip()) + "\n")
            sys.stdout.flush()
    else:
        found = []
        for name in argv[1:]:
            with open(name) as f:
                found.append(values_corpus.load(json.load(f)))
        json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
