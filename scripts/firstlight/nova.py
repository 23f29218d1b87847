"""The solver of nova.astrometry.net, or a server of one's own: asked for a list of sources, never for an image.

Nothing here is used unless `solve: order` names nova. What is sent: positions of sources, size of the image, and the hints.
"""

from __future__ import annotations

import json

import numpy as np
from astropy.io import fits

from . import astrometry, io

KEY = "ASTROMETRY_NET_API_KEY"
SERVER = "https://nova.astrometry.net"
CARDS = ("FLSOLVED", "FLSOLVER", "FLMATCH", "FLWCSRMS", "FLUNSOLV", "FLNOVA")
BRIGHTEST = 300  # sources that are sent
PATIENCE = 30.0  # s for one answer of the server


class Unanswered(Exception):
    """The server gave no answer about a list of sources: not asked, not reached, or not done; to be asked again.

    submission  its number, where the server has taken the list
    """

    def __init__(self, reason: str, submission: int | None = None):
        super().__init__(reason)
        self.submission = submission


def request(xy, shape, centre=None, radius: float = 2.0, scales: tuple[float, float] | None = None) -> dict:
    """What the server is asked, in the names of its API: private, pixels counted from 1.

    xy       pixels (n, 2) from 0, brightest first; shape (ny, nx)
    centre   (ra, dec) and radius in degrees, None for the whole sky; scales: least and largest arcsec/pix, None for any
    """
    ny, nx = shape
    xy = np.asarray(xy, float)[:BRIGHTEST] + 1
    words = {"x": xy[:, 0].round(3).tolist(), "y": xy[:, 1].round(3).tolist(), "image_width": nx, "image_height": ny}
    words |= {"publicly_visible": "n", "allow_commercial_use": "n", "allow_modifications": "n", "crpix_center": True}
    if centre is not None:
        words |= {"center_ra": float(centre[0]), "center_dec": float(centre[1]), "radius": float(radius)}
    if scales is not None:
        words |= {"scale_units": "arcsecperpix", "scale_type": "ul"}
        words |= {"scale_lower": float(scales[0]), "scale_upper": float(scales[1])}
    return words


def ask(words: dict, key: str | None, seconds: float, server: str = "", submission: int | None = None, taken=None):
    """The WCS that the server finds for a `request`.

    key         of the user's account; seconds to wait for the solution
    submission  number of an earlier request of the same words, which is taken up again; taken: called with the number of a
                new one as soon as the server has given it

    Raises ValueError with the reason where the server says that it cannot solve it, Unanswered where it does not say.
    """
    server = (server or SERVER).rstrip("/")
    if not key and submission is None:
        raise Unanswered(f"no key: set the environment variable {KEY} to that of your account at {server}")
    client = _client(server, seconds, taken)
    try:
        header = _talk(client, words, key, seconds, submission)
    except Unanswered as unanswered:
        unanswered.submission = unanswered.submission or client.submission
        raise
    if not header:
        raise ValueError(f"{server} found no solution")
    wcs = astrometry.read_wcs(header)
    if wcs is None:
        raise ValueError(f"{server} sent no WCS that can be read")
    return wcs


def remembered(text: str, asked: str) -> int | None:
    """The number of the submission that a job before left behind, if it was the same request; see `memory`."""
    state = _state(text)
    return state.get("submission") if state.get("asked") == asked else None


def attempt(text: str) -> int:
    """How often a request stayed without an answer: as a parameter of the rule it brings the next attempt about."""
    number = _state(text).get("attempt")
    return number if isinstance(number, int) else 0


def memory(asked: str, submission: int | None, attempt: int) -> str:
    """What a job leaves behind for the next, as text: the identity of what was asked, the number that the server gave it,
    and the number of the attempt that comes next."""
    return json.dumps({"asked": asked, "submission": submission, "attempt": attempt}) + "\n"


def _state(text: str) -> dict:
    try:
        state = json.loads(text or "{}")
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def merged(header: fits.Header, later: fits.Header | None) -> fits.Header:
    """A light's header with what the server found, where the frame itself was not solved."""
    if later is None or header.get("FLSOLVED") or "FLNOVA" not in later:
        return header
    found = header.copy()
    if later.get("FLSOLVED"):
        found = astrometry.replace_wcs(found, astrometry.read_wcs(later))
        found.remove("FLUNSOLV", ignore_missing=True)
    for key in CARDS:
        if key in later:
            found[key] = (later[key], later.comments[key])
    return found


def light_header(light, answer=None) -> fits.Header:
    """The header of a light's file, with the WCS from the file of the server's answer where it has none of its own."""
    return merged(io.read_header(light), None if answer is None else io.read_header(answer))


def _talk(client, words: dict, key, seconds: float, submission):
    """The server's header, empty where it cannot solve; every way in which the exchange fails becomes Unanswered."""
    import requests
    from astroquery import astrometry_net, exceptions

    server = client.URL
    try:
        if submission is not None:
            client.submission = submission
            try:
                return client.monitor_submission(submission, solve_timeout=seconds, verbose=False)
            except requests.HTTPError:  # the server does not know it any more
                client.submission = None
        if not key:
            raise Unanswered(f"no key: set the environment variable {KEY} to that of your account at {server}")
        with astrometry_net.conf.set_temp("api_key", key):
            return client.solve_from_source_list(**words, solve_timeout=seconds, verbose=False)
    except exceptions.TimeoutError as error:
        raise Unanswered(f"{server} was not done within {seconds:g} s; the next run takes it up again") from error
    except (ValueError, LookupError, TypeError) as error:  # no JSON, other words in it than the API's, no URL at all
        problem = f"{type(error).__name__}: {error}"
        raise Unanswered(f"{server} does not speak nova's API ({problem}): is solve: nova_url right?") from error
    except (requests.RequestException, OSError) as error:
        raise Unanswered(f"{server} does not answer ({type(error).__name__})") from error
    except RuntimeError as error:
        reason = f"refused the key in {KEY}" if "log in" in str(error) else f"failed: {error}"
        raise Unanswered(f"{server} {reason}") from error


def _client(server: str, seconds: float, taken):
    """Astroquery's client of a server, which remembers the number of its submission."""
    from astroquery.astrometry_net import AstrometryNetClass

    class Client(AstrometryNetClass):
        submission = None

        def monitor_submission(self, submission_id, **options):
            if self.submission is None and taken is not None:
                taken(submission_id)
            self.submission = submission_id
            return super().monitor_submission(submission_id, **options)

        def _request(self, *arguments, **options):
            answer = super()._request(*arguments, **options | {"cache": False, "timeout": min(PATIENCE, seconds)})
            answer.raise_for_status()
            return answer

    client = Client()
    client.URL, client.API_URL = server, f"{server}/api"
    return client
