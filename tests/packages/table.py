"""The packages of the matrix: how each is used, and what comes of it in a bare node of the same Python and of others."""
from __future__ import annotations

import textwrap
from dataclasses import dataclass

WORKS = "works"
#: Its native parts don't travel to that node; it does without.
FALLS_BACK = "falls back"
#: Patterns of errors. The package's code is for newer Pythons than that one, which says so itself.
TOO_NEW = (r"invalid syntax|unsupported operand|cannot import name|multiple repeat|unexpected keyword|future feature|"
           r"above is required|No module named 'http'")  # fmt: skip
#: It has native parts that it can't do without, and they aren't for that node.
NATIVE = r"is native code for"
#: It opens files by paths beside its modules; there are none.
FILES = r"No such file or directory: 'ramet:|Unable to load data for|unknown locale|'Europe/Berlin'"
#: `joinpath` of several parts, on the Traversable that 3.9 itself makes for what isn't a folder.
ZIP_OF_3_9 = r"joinpath\(\) takes 2"
#: How the docs say it.
WORDS = {WORKS: "works", FALLS_BACK: "works, without its native parts", TOO_NEW: "not for that Python",
         NATIVE: "refused: native", FILES: "fails: opens files by their paths",
         ZIP_OF_3_9: "fails: `joinpath` there"}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One package.

    Attributes:
        name: its distribution.
        text: a module of the user's, with a function ``use``, whose result must be the same here and there.
        natives: native modules that it can use; that they are there tells WORKS from FALLS_BACK.
        outcomes: by the label of the node's Python ("same": the controller's own): WORKS, FALLS_BACK, or a pattern that the
            error's text has.
        light: it runs in ``make test``, too.
    """

    name: str
    text: str
    outcomes: dict[str, str]
    natives: tuple[str, ...] = ()
    light: bool = False

    @property
    def module(self) -> str:
        """The name of the module that uses it."""
        return "use_" + self.name.replace("-", "_").lower()

    @property
    def source(self) -> str:
        """The module's text."""
        return textwrap.dedent(self.text).lstrip()


EVERYWHERE = {"same": WORKS, "3.13": WORKS, "3.9": WORKS, "2.7": WORKS}
FOR_3 = EVERYWHERE | {"2.7": TOO_NEW}
FOR_3_10 = FOR_3 | {"3.9": TOO_NEW}
WITHOUT_NATIVE = {"same": FALLS_BACK, "3.13": FALLS_BACK, "3.9": FALLS_BACK}
NATIVE_OR_NOT = {"same": WORKS, "3.13": FALLS_BACK, "3.9": FALLS_BACK}
NATIVE_ONLY = {"same": WORKS, "3.13": NATIVE, "3.9": NATIVE}
STABLE_ABI = {"same": WORKS, "3.13": WORKS, "3.9": WORKS}
NO_FILES = {"same": FILES, "3.13": FILES, "3.9": FILES}

CASES = [
    Case("Django", """
        import django
        from django.conf import settings
        settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
                           INSTALLED_APPS=[], USE_TZ=True)
        django.setup()
        from django.db import connection, models

        class Host(models.Model):
            name = models.CharField(max_length=20)
            load = models.FloatField()
            class Meta:
                app_label = "use"

        def use():
            with connection.schema_editor() as editor:
                editor.create_model(Host)
            Host.objects.bulk_create([Host(name="web1", load=0.5), Host(name="web2", load=2.5)])
            busy = Host.objects.filter(load__gt=1).values_list("name", flat=True)
            return list(busy), Host.objects.aggregate(models.Avg("load")), str(busy.query)
        """, FOR_3_10),
    Case("SQLAlchemy", """
        from sqlalchemy import create_engine, select, func, String
        from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

        class Base(DeclarativeBase):
            pass

        class Host(Base):
            __tablename__ = "hosts"
            name: Mapped[str] = mapped_column(String(20), primary_key=True)
            load: Mapped[float]

        def use():
            engine = create_engine("sqlite://")
            Base.metadata.create_all(engine)
            with Session(engine) as session:
                session.add_all([Host(name="web1", load=0.5), Host(name="web2", load=2.5)])
                session.commit()
                busy = session.scalars(select(Host).where(Host.load > 1)).all()
                return [host.name for host in busy], session.scalar(select(func.count()).select_from(Host))
        """, FOR_3_10),
    Case("requests", """
        import threading
        from http.server import BaseHTTPRequestHandler, HTTPServer
        import requests

        class Hello(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.end_headers()
                self.wfile.write(b'{"path": "%s"}' % self.path.encode())
            def log_message(self, *args):
                pass

        def use():
            server = HTTPServer(("127.0.0.1", 0), Hello)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                with requests.Session() as session:
                    answer = session.get("http://127.0.0.1:%d/a" % server.server_port, params={"q": "gr\\u00fcn"})
                    return answer.status_code, answer.json(), answer.encoding
            finally:
                server.shutdown()
                thread.join()
                server.server_close()
        """, FOR_3_10),
    Case("httpx", """
        import asyncio
        import httpx

        def answer(request):
            return httpx.Response(200, json={"path": request.url.path})

        async def ask():
            async with httpx.AsyncClient(transport=httpx.MockTransport(answer), verify=False) as client:
                return (await client.get("http://web1/status")).json()

        def use():
            return asyncio.run(ask())
        """, FOR_3_10),
    Case("urllib3", """
        import urllib3
        from urllib3.util import Retry, parse_url

        def use():
            pool = urllib3.PoolManager(retries=Retry(0))
            try:
                pool.request("GET", "http://127.0.0.1:1/")
            except urllib3.exceptions.MaxRetryError as error:
                return parse_url("https://web1:8443/a?b#c").port, type(error.reason).__name__
        """, FOR_3_10),
    Case("Jinja2", """
        from jinja2 import Environment, DictLoader

        PAGES = {"base": "<{% block body %}{% endblock %}>",
                 "page": "{% extends 'base' %}{% block body %}{% for h in hosts|sort %}{{ loop.index }}{{ h|e }} {% endfor %}"
                         "{% endblock %}"}

        def use():
            return Environment(loader=DictLoader(PAGES)).get_template("page").render(hosts=["<web2>", "web1"])
        """, NATIVE_OR_NOT | {"2.7": TOO_NEW}, natives=("markupsafe._speedups",)),
    Case("MarkupSafe", """
        from markupsafe import Markup, escape

        def use():
            return str(Markup("<b>%s</b>") % "<x>" + escape("a & b"))
        """, NATIVE_OR_NOT, natives=("markupsafe._speedups",)),
    Case("PyYAML", """
        import yaml

        def use():
            text = yaml.safe_dump({"hosts": ["web1", "web2"], "load": 0.5})
            return text, yaml.safe_load("a: &x [1, 2.5, 2026-11-22]\\nb: *x\\n"), yaml.load("[1]", yaml.SafeLoader)
        """, NATIVE_OR_NOT, natives=("yaml._yaml",)),
    Case("attrs", """
        import attr
        from attr import validators

        @attr.s
        class Host(object):
            name = attr.ib(validator=validators.instance_of(str))
            load = attr.ib(default=0.5, converter=float)

        def use():
            try:
                Host(7)
            except TypeError:
                return attr.asdict(attr.evolve(Host("web1"), load="2")), repr(Host("web2"))
        """, FOR_3),
    Case("pydantic", """
        from typing import List
        from pydantic import BaseModel, ValidationError

        class Host(BaseModel):
            name: str
            ports: List[int] = []

        def use():
            try:
                Host(name="x", ports=["nil"])
            except ValidationError as error:
                return Host.model_validate_json('{"name": "web1", "ports": ["80"]}').model_dump(), error.error_count()
        """, NATIVE_ONLY),
    Case("click", """
        import click
        from click.testing import CliRunner

        @click.command()
        @click.option("--count", default=1, help="How often.")
        @click.argument("name")
        def hello(count, name):
            for _ in range(count):
                click.echo("hello " + name)

        def use():
            done = CliRunner().invoke(hello, ["--count", "2", "web1"])
            return done.exit_code, done.output, CliRunner().invoke(hello, ["--help"]).output
        """, FOR_3_10, light=True),
    Case("rich", """
        from rich.console import Console
        from rich.table import Table

        def use():
            table = Table("host", "load", title="nodes")
            table.add_row("web1", "[bold]0.5[/bold]")
            console = Console(width=40, no_color=True, force_terminal=False)
            with console.capture() as said:
                console.print(table, ":smiley:")
            return said.get()
        """, FOR_3, light=True),
    Case("typer", """
        import typer
        from typer.testing import CliRunner

        app = typer.Typer()

        @app.command()
        def hello(name: str, count: int = 1):
            for _ in range(count):
                typer.echo("hello " + name)

        def use():
            done = CliRunner().invoke(app, ["web1", "--count", "2"], catch_exceptions=False)
            return done.exit_code, done.output
        """, NATIVE_ONLY | {"3.9": TOO_NEW}),
    Case("python-dateutil", """
        from datetime import datetime
        from dateutil import parser, relativedelta, rrule

        def use():
            when = parser.parse("22 Nov 2026 05:02 UTC")
            days = rrule.rrule(rrule.WEEKLY, count=2, dtstart=datetime(2026, 11, 22))
            return when.isoformat(), [str(day) for day in days], (when + relativedelta.relativedelta(months=1)).month
        """, EVERYWHERE),
    Case("pytz", """
        from datetime import datetime
        import pytz

        def use():
            return str(pytz.timezone("Europe/Berlin").localize(datetime(2026, 7, 1))), "CET" in pytz.all_timezones_set
        """, EVERYWHERE | {"3.9": ZIP_OF_3_9, "2.7": FILES}),
    Case("six", """
        import six
        from six.moves import configparser, queue, urllib
        from six.moves.urllib.parse import urlencode

        def use():
            jobs = queue.Queue()
            jobs.put(six.text_type("x"))
            sections = configparser.ConfigParser().sections()
            return jobs.get(), urlencode({"a": 1}), urllib.parse.quote("a b"), six.PY2 or six.PY3, sections
        """, EVERYWHERE),
    Case("simplejson", """
        from decimal import Decimal
        import simplejson

        def use():
            text = simplejson.dumps({"a": Decimal("1.10"), "b": [None, True]}, sort_keys=True)
            return text, simplejson.loads(text, use_decimal=True)["a"] == Decimal("1.10")
        """, NATIVE_OR_NOT | {"2.7": FALLS_BACK}, natives=("simplejson._speedups",)),
    Case("Markdown", """
        import markdown

        def use():
            return markdown.markdown("# a\\n\\n|x|y|\\n|-|-|\\n|1|2|\\n", extensions=["tables", "toc"])
        """, FOR_3_10),
    Case("Pygments", """
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import get_lexer_by_name

        def use():
            return highlight("def f(): return 1", get_lexer_by_name("python"), HtmlFormatter(style="monokai"))
        """, FOR_3, light=True),
    Case("docutils", """
        from docutils.core import publish_parts

        def use():
            parts = publish_parts("Title\\n=====\\n\\n*text* and ``code``\\n\\n.. note:: mind\\n", writer="html5",
                                  settings_overrides={"embed_stylesheet": False, "stylesheet_path": None})
            return parts["title"], parts["body"]
        """, NO_FILES),
    Case("beautifulsoup4", """
        from bs4 import BeautifulSoup

        def use():
            soup = BeautifulSoup("<p class=a>one<p>two <b>bold</b>", "html.parser")
            return [p.get_text() for p in soup.select("p")], soup.find("b").parent.name
        """, FOR_3_10),
    Case("lxml", """
        from lxml import etree

        def use():
            tree = etree.fromstring("<a><b n='1'/><b n='2'/></a>")
            return [str(n) for n in tree.xpath("//b/@n")], etree.tostring(tree).decode()
        """, NATIVE_ONLY, natives=("lxml.etree",)),
    Case("psutil", """
        import os
        import psutil

        def use():
            return psutil.Process().pid == os.getpid(), psutil.virtual_memory().total, psutil.cpu_count()
        """, STABLE_ABI, natives=("psutil._psutil_linux",)),
    Case("msgpack", """
        import msgpack

        def use():
            return msgpack.unpackb(msgpack.packb({"a": [1, 2.5, b"x", None]})), msgpack.Timestamp(1, 2).to_unix_nano()
        """, NATIVE_OR_NOT, natives=("msgpack._cmsgpack",), light=True),
    Case("orjson", """
        import orjson

        def use():
            return orjson.loads(orjson.dumps({"a": [1, 2.5, None]}))
        """, NATIVE_ONLY, natives=("orjson.orjson",)),
    Case("cryptography", """
        from cryptography.fernet import Fernet
        from cryptography.hazmat.primitives import hashes

        def use():
            key = Fernet.generate_key()
            digest = hashes.Hash(hashes.SHA256())
            digest.update(b"x")
            return Fernet(key).decrypt(Fernet(key).encrypt(b"secret")), digest.finalize()
        """, NATIVE_ONLY, natives=("cryptography.hazmat.bindings._rust",)),
    Case("idna", """
        import idna

        def use():
            return idna.encode("stra\\u00dfe.de").decode(), idna.decode("xn--strae-oqa.de")
        """, FOR_3),
    Case("certifi", """
        import certifi
        import ssl

        def use():
            context = ssl.create_default_context(cafile=certifi.where())
            return context.cert_store_stats()["x509_ca"] > 50, certifi.contents().count("BEGIN CERTIFICATE") > 50
        """, FOR_3),
    Case("paramiko", """
        import io
        import paramiko

        def use():
            key = paramiko.RSAKey.generate(1024)
            text = io.StringIO()
            key.write_private_key(text)
            text.seek(0)
            return paramiko.RSAKey.from_private_key(text).get_fingerprint() == key.get_fingerprint()
        """, NATIVE_ONLY, natives=("cryptography.hazmat.bindings._rust",)),
    Case("networkx", """
        import networkx as nx

        def use():
            graph = nx.Graph([("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("d", "e")])
            return nx.shortest_path(graph, "a", "e"), sorted(nx.degree_centrality(graph).items())
        """, FOR_3_10),
    Case("sympy", """
        import sympy

        def use():
            x = sympy.Symbol("x")
            return str(sympy.integrate(x * sympy.exp(x), x)), str(sympy.solve(x ** 2 - 2, x)), str(sympy.diff(sympy.sin(x), x))
        """, FOR_3),
    Case("toml", """
        import toml

        def use():
            return toml.loads('[tool]\\nnames = ["a", "b"]\\n'), toml.dumps({"a": {"b": 1}})
        """, EVERYWHERE),
    Case("jsonschema", """
        import jsonschema

        def use():
            schema = {"type": "object", "properties": {"port": {"type": "integer"}}}
            jsonschema.validate({"port": 80}, schema)
            try:
                jsonschema.validate({"port": "80"}, schema)
            except jsonschema.ValidationError as error:
                return error.message, list(error.path)
        """, NATIVE_ONLY, natives=("rpds.rpds",)),
    Case("boto3", """
        import boto3
        from botocore.stub import Stubber

        def use():
            client = boto3.client("sts", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
            with Stubber(client) as stub:
                stub.add_response("get_caller_identity", {"Account": "123456789012"})
                return client.get_caller_identity()["Account"]
        """, NO_FILES | {"3.9": TOO_NEW}),
    Case("tqdm", """
        import io
        from tqdm import tqdm

        def use():
            said = io.StringIO()
            return sum(tqdm(range(10), file=said, ascii=True)), "100%" in said.getvalue()
        """, FOR_3),
    Case("psycopg2-binary", """
        import psycopg2
        from psycopg2.extensions import parse_dsn

        def use():
            try:
                psycopg2.connect("host=127.0.0.1 port=1")
            except psycopg2.OperationalError:
                return parse_dsn("dbname=a user=b")
        """, NATIVE_ONLY, natives=("psycopg2._psycopg",)),
    Case("numpy", """
        import numpy

        def use():
            return float(numpy.linalg.norm(numpy.arange(5.0)))
        """, NATIVE_ONLY, natives=("numpy._core._multiarray_umath",), light=True),
    Case("more-itertools", """
        from more_itertools import chunked, windowed, peekable

        def use():
            return list(chunked(range(5), 2)), list(windowed("abc", 2)), peekable([7]).peek()
        """, FOR_3_10),
    Case("packaging", """
        from packaging.requirements import Requirement
        from packaging.version import Version

        def use():
            wanted = Requirement("ramet[cli]>=1.0; python_version > '2'")
            return Version("1.10") > Version("1.9"), str(wanted.specifier), sorted(wanted.extras), str(Version("1.0rc1").pre)
        """, FOR_3, light=True),
    Case("itsdangerous", """
        from itsdangerous import BadSignature, URLSafeSerializer

        def use():
            signer = URLSafeSerializer("key")
            try:
                signer.loads("forged.x")
            except BadSignature:
                return signer.dumps({"id": 7}), signer.loads(signer.dumps([1, 2]))
        """, FOR_3),
    Case("Flask", """
        from flask import Flask, jsonify, render_template_string

        app = Flask("use")

        @app.route("/host/<name>")
        def host(name):
            return jsonify(name=name)

        @app.route("/page")
        def page():
            return render_template_string("{{ 1 + 1 }}")

        def use():
            client = app.test_client()
            return client.get("/host/web1").get_json(), client.get("/page").text, client.get("/none").status_code
        """, NATIVE_OR_NOT | {"3.9": TOO_NEW}, natives=("markupsafe._speedups",)),
    Case("tornado", """
        import asyncio
        from tornado import httpclient, httpserver, netutil, web

        class Hello(web.RequestHandler):
            def get(self):
                self.write({"path": self.request.path})

        async def serve():
            server = httpserver.HTTPServer(web.Application([("/.*", Hello)]))
            sockets = netutil.bind_sockets(0, "127.0.0.1")
            server.add_sockets(sockets)
            answer = await httpclient.AsyncHTTPClient().fetch("http://127.0.0.1:%d/a" % sockets[0].getsockname()[1])
            server.stop()
            return answer.code, answer.body

        def use():
            return asyncio.run(serve())
        """, STABLE_ABI | {"3.9": TOO_NEW}, natives=("tornado.speedups",)),
    Case("tabulate", """
        from tabulate import tabulate

        def use():
            return tabulate([["web1", 0.5], ["web2", 2]], headers=["host", "load"], tablefmt="github")
        """, FOR_3),
    Case("babel", """
        from datetime import date
        from babel.dates import format_date
        from babel.numbers import format_decimal

        def use():
            return format_date(date(2026, 11, 22), locale="de_DE"), format_decimal(1234.5, locale="fr")
        """, NO_FILES | {"3.9": ZIP_OF_3_9}),
    Case("toolz", """
        from toolz import curried, groupby, pipe

        def use():
            return groupby(len, ["a", "bb", "c"]), pipe(range(4), curried.map(lambda n: n * 2), sum)
        """, FOR_3),
    Case("sortedcontainers", """
        from sortedcontainers import SortedDict, SortedList

        def use():
            return list(SortedDict(b=1, a=2)), SortedList([3, 1, 2]).bisect(2)
        """, EVERYWHERE, light=True),
]


#: Tried once more, with these packages staged.
STAGED = {
    "babel": ("babel pytz", FOR_3),
    "boto3": ("boto3 botocore", FOR_3_10),
    "docutils": ("docutils", FOR_3),
    "numpy": ("numpy", {"same": WORKS, "3.13": NATIVE, "3.9": NATIVE}),
    "pytz": ("pytz", EVERYWHERE),
}


def staged_rows() -> list[str]:
    """The lines of the docs' table of staged packages."""
    labels = ("same", "3.13", "3.9", "2.7")
    lines = ["| staged | the same Python (3.11) | 3.13 | 3.9 | 2.7 |", "|---|---|---|---|---|"]
    cases = {case.name: case for case in CASES}
    for name, (packages, outcomes) in STAGED.items():
        said = [WORDS[outcomes[label]] if label in cases[name].outcomes else "" for label in labels]
        lines.append(f"| {packages.replace(' ', ', ')} | {' | '.join(said)} |".replace("|  |", "| |"))
    return lines


def rows() -> list[str]:
    """The lines of the docs' table."""
    labels = ("same", "3.13", "3.9", "2.7")
    lines = ["| package | the same Python (3.11) | 3.13 | 3.9 | 2.7 |", "|---|---|---|---|---|"]
    for case in sorted(CASES, key=lambda case: case.name.lower()):
        said = [WORDS[case.outcomes[label]] if label in case.outcomes else "" for label in labels]
        lines.append(f"| {case.name} | {' | '.join(said)} |".replace("|  |", "| |"))
    return lines
