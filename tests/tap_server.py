"""A loopback server that speaks enough of TAP for astroquery: asynchronous jobs, their phases, answers as VOTables.

Written after the IVOA's recommendations TAP 1.1 and UWS 1.1: a POST to /async answers 303 with the job's address, its
/phase is text, its result lies in /results/result, and an error in /error.
"""

import io
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.coordinates import angular_separation
from astropy.table import Table

ASKED = re.compile(
    r"SELECT TOP (\d+) (.+) FROM (\S+) WHERE .*CIRCLE\(([\d.+-]+), ([\d.+-]+), ([\d.]+)\)\) AND (\w+) <= ([\d.]+)"
)


class Service:
    """What the server has and does.

    table    the stars of "gaiadr3.gaia_source"
    scripts  what goes wrong with one request for a job after the other, then nothing: "error" (500), "refused" (a job
             that ends in phase ERROR), "empty", "page" (something that is no VOTable), "hang" (no answer at all),
             "endless" (a job that never ends)
    polls    phases that say EXECUTING before a job is COMPLETED
    """

    def __init__(self, table: Table, scripts=(), polls: int = 1):
        self.table, self.scripts, self.polls = table, list(scripts), polls
        self.queries, self.jobs, self.lock = [], {}, threading.Lock()
        self.url, self.released = "", threading.Event()

    def launch(self, query: str) -> str:
        """A new job; its number."""
        with self.lock:
            self.queries.append(query)
            number = str(1000 + len(self.queries))
            self.jobs[number] = {"polls": 0, "query": query, "fate": self.scripts.pop(0) if self.scripts else ""}
        return number

    def answer(self, query: str) -> Table:
        """The rows that a query asks for; it understands the one form that is asked."""
        top, columns, name, *circle, magnitude, limit = ASKED.match(query).groups()
        assert name == "gaiadr3.gaia_source"
        ra, dec, radius = map(float, circle)
        place = [np.radians(self.table[key]) for key in ("ra", "dec")]
        distance = np.degrees(angular_separation(*place, np.radians(ra), np.radians(dec)))
        rows = self.table[(distance <= radius) & (self.table[magnitude] <= float(limit))]
        if "ORDER BY" in query:
            rows.sort(query.split("ORDER BY ")[1])
        return rows[[column.strip() for column in columns.split(",")]][: int(top)]


class Handler(BaseHTTPRequestHandler):
    service: Service

    def log_message(self, *_):
        pass

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        number = self.service.launch(form["QUERY"][0])
        fate = self.service.jobs[number]["fate"]
        if fate == "hang":
            self.service.released.wait(60)
            return
        if fate == "error":
            return self.say(500, "the archive is under maintenance")
        assert form["PHASE"] == ["RUN"] and form["LANG"] == ["ADQL"]
        self.send_response(303)
        self.send_header("Location", f"{self.service.url}/async/{number}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        place = re.match(r".*/async/(\d+)/(phase|results/result|error)$", urlsplit(self.path).path)
        if not place:
            return self.say(404, "no such place")
        job, what = self.service.jobs[place[1]], place[2]
        if what == "phase":
            return self.say(200, self.phase(job))
        if what == "error" or job["fate"] == "refused":
            return self.say(200, '<VOTABLE><INFO name="QUERY_STATUS" value="ERROR">bad luck</INFO></VOTABLE>')
        if job["fate"] == "page":
            return self.say(200, "<html><body>please log in to this network</body></html>")
        rows = self.service.answer(job["query"])
        text = io.BytesIO()
        (rows[:0] if job["fate"] == "empty" else rows).write(text, format="votable")
        self.say(200, text.getvalue(), "application/x-votable+xml")

    def phase(self, job) -> str:
        job["polls"] += 1
        if job["fate"] == "endless" or job["polls"] <= self.service.polls:
            return "EXECUTING"
        return "ERROR" if job["fate"] == "refused" else "COMPLETED"

    def say(self, status, text, kind="text/plain"):
        body = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def tap_server(table: Table, scripts=(), polls: int = 1):
    """Serve a table of stars at `service.url` for as long as the context lasts."""
    service = Service(table, scripts, polls)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHandler", (Handler,), {"service": service}))
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}/tap-server/tap"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def closed_port() -> int:
    """A port on this machine at which nobody answers."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def silent_server():
    """The address of a server that takes connections and never says a word."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(20)
        yield f"http://127.0.0.1:{one.getsockname()[1]}/tap-server/tap"
