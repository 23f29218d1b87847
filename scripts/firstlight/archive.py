"""The Gaia archive, asked over the network: nothing here runs unless the configuration names it."""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

REACH = 3.0  # s for a connection
PATIENCE = 10.0  # s after which a network that is not there is no longer waited for
WAITS = (1.0, 4.0)  # s before the second and the third try

COLUMNS = "ra, dec, pmra, pmdec, ref_epoch, phot_g_mean_mag, bp_rp"


class Unreachable(OSError):
    """No connection to the archive."""


def within(seconds: float, ask, *arguments):
    """What ask(*arguments) returns or raises; TimeoutError after `seconds`, whatever it hangs in.

    It runs in a thread that is left behind: neither a look-up of a name nor astroquery's connections have limits.
    """
    came = {}

    def work():
        try:
            came["answer"] = ask(*arguments)
        except Exception as error:
            came["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(max(seconds, 0))
    if "error" in came:
        raise came["error"]
    if "answer" not in came:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return came["answer"]


def knock(server: str) -> None:
    """Open and close a connection to the server of an address; Unreachable within 3 s where that fails."""
    import socket

    try:
        parts = urlsplit(server)
        place = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        within(REACH, lambda: socket.create_connection(place, REACH).close())
    except (OSError, ValueError, TypeError) as error:
        raise Unreachable(f"{server} cannot be reached: {error}") from error


def reachable(server: str) -> bool:
    """Whether the server of an address takes a connection."""
    try:
        knock(server)
    except Unreachable:
        return False
    return True


def query(centre: tuple[float, float], radius: float, limit: float, number: int) -> str:
    """The question in ADQL: stars of a cone (degrees) brighter than G = limit, the brightest `number` of them."""
    ra, dec = centre
    return (
        f"SELECT TOP {number} {COLUMNS} FROM gaiadr3.gaia_source "
        f"WHERE 1 = CONTAINS(POINT(ra, dec), CIRCLE({ra:.5f}, {dec:.5f}, {radius:.4f})) "
        f"AND phot_g_mean_mag <= {limit:g} ORDER BY phot_g_mean_mag"
    )


def gaia(centre: tuple[float, float], radius: float, limit: float, number: int, server: str, time_limit: float):
    """Stars of Gaia DR3 in a cone, brightest first, as an astropy Table (Gaia Collaboration 2023, A&A 674, A1).

    centre (ra, dec), radius  degrees
    limit, number             G magnitude, and rows at most
    server                    address of a TAP service that has the table gaiadr3.gaia_source
    time_limit                [s] for all tries together
    Errors and empty answers are tried again, three times in all. Raises OSError with the last reason; where there is no
    network within 10 s.
    """
    question = query(centre, radius, limit, number)
    start = time.monotonic()
    for wait in (*WAITS, None):
        try:
            knock(server)
            left = time_limit - (time.monotonic() - start)
            table = within(left, _answer, server, question)
            if len(table):
                return table
            error = OSError(f"{server} answered without stars")
        except Exception as problem:  # astroquery, the parser of tables and the network each have their own
            error = problem
        took = time.monotonic() - start
        patience = min(PATIENCE - REACH, time_limit) if isinstance(error, Unreachable) else time_limit
        if wait is None or took + wait > patience:
            break
        print(f"{_sentence(error)}; trying again in {wait:g} s")
        time.sleep(wait)
    raise OSError(_sentence(error)) from error


def _answer(server: str, question: str):
    # Not astroquery.gaia: it asks the archive for news as it is imported, without a limit of time.
    # Asynchronous, since the archive cuts the answers of its synchronous service to 2000 rows.
    from astroquery.utils.tap.core import TapPlus

    return TapPlus(url=server).launch_job_async(question).get_results()


def _sentence(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]


def position(name: str, time_limit: float = 20.0) -> tuple[float, float]:
    """(ra, dec) in degrees of an object, by the name service of the CDS (Sesame); OSError with the reason."""

    def ask():
        from astropy.coordinates import SkyCoord

        return SkyCoord.from_name(name).icrs

    try:
        place = within(time_limit, ask)
    except Exception as error:
        raise OSError(f"the name {name!r} was not resolved: {_sentence(error)}") from error
    return float(place.ra.deg), float(place.dec.deg)
