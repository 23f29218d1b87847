"""A server on this machine that speaks the API of nova.astrometry.net and solves with the real `solve-field`.

    with NovaServer(folder, keys={"good"}) as server:
        ... server.url ...

It knows login, url_upload with a list of sources, submissions, jobs and wcs_file. What it was sent is in `asked`.
"""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
from astropy.table import Table


class NovaServer:
    """Listens on a free port of this machine while it is entered.

    keys   that log in; hold: submissions wait until `release` is called
    """

    def __init__(self, folder, keys=("good",), hold=False):
        self.folder, self.keys = Path(folder), set(keys)
        self.asked, self.paths, self.status = [], [], {}
        self.go = threading.Event()
        if not hold:
            self.go.set()

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"nova": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.go.set()
        self.http.shutdown()
        self.http.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}"

    def release(self):
        self.go.set()

    def submit(self, words):
        """The number of a new submission, which is solved as soon as it may be."""
        number = len(self.asked) + 1
        self.asked.append(words)
        self.status[number] = "solving"
        threading.Thread(target=self._solve, args=(number, words), daemon=True).start()
        return number

    def _solve(self, number, words):
        self.go.wait()
        place = self.folder / str(number)
        place.mkdir(parents=True)
        rank = np.arange(len(words["x"]), 0, -1.0)
        Table({"X": words["x"], "Y": words["y"], "FLUX": rank}).write(place / "field.xyls", format="fits")
        command = ["solve-field", "field.xyls", "--no-plots", "--no-remove-lines", "--uniformize", "0"]
        command += ["--x-column", "X", "--y-column", "Y", "--sort-column", "FLUX", "--wcs", "field.wcs"]
        command += ["--width", words["image_width"], "--height", words["image_height"], "--cpulimit", 20]
        if "center_ra" in words:
            command += ["--ra", words["center_ra"], "--dec", words["center_dec"], "--radius", words["radius"]]
        if "scale_lower" in words:
            command += ["--scale-units", "arcsecperpix"]
            command += ["--scale-low", words["scale_lower"], "--scale-high", words["scale_upper"]]
        subprocess.run([str(word) for word in command], cwd=place, capture_output=True, check=False)
        self.status[number] = "success" if (place / "field.solved").exists() else "failure"

    def answer(self, path, words):
        """(HTTP status, content) of a request."""
        parts = path.strip("/").split("/")
        if parts == ["api", "login"]:
            if words["apikey"] not in self.keys:
                return 200, {"status": "error", "errormessage": "bad apikey"}
            return 200, {"status": "success", "message": "authenticated user", "session": "s1"}
        if parts == ["api", "url_upload"]:
            if words.get("session") != "s1":
                return 200, {"status": "error", "errormessage": "no session"}
            return 200, {"status": "success", "subid": self.submit(words), "hash": "0"}
        if parts[0] not in ("api", "wcs_file") or not (number := int(next(p for p in parts if p.isdigit()))):
            return 404, {}
        if number % 1000 not in self.status:
            return 404, {"status": "error"}
        if parts[1] == "submissions":  # the job has a number of its own, and at first there is none
            started = self.go.is_set()
            return 200, {"processing_started": "x", "jobs": [number + 1000] if started else [None], "user": 1}
        if parts[1] == "jobs":
            return 200, {"status": self.status[number - 1000]}
        return 200, (self.folder / str(number - 1000) / "field.wcs").read_bytes()


class _Handler(BaseHTTPRequestHandler):
    nova: NovaServer

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._reply(json.loads(parse_qs(body)["request-json"][0]))

    def do_GET(self):
        self._reply({})

    def _reply(self, words):
        self.nova.paths.append(self.path)
        code, content = self.nova.answer(self.path, words)
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass
