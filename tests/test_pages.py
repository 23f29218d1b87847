"""Pages that are made from the code: that they are of today, and name every key."""

import re

import pages
import pytest
import yaml
from astropy.io import fits
from firstlight import header
from firstlight.config import complete, read_schema

SCHEMA = read_schema(pages.PROJECT / "config.schema.yaml")


def described(part, name=""):
    for key, inner in part.get("properties", {}).items():
        yield key, inner
        yield from described(inner, key)


def test_the_page_is_that_of_the_schema():
    assert pages.CONFIGURATION.read_text() == pages.configuration(SCHEMA), "make docs writes it anew"


def test_every_key_has_its_row_or_section():
    text = pages.configuration(SCHEMA)
    for key, part in described(SCHEMA):
        assert f"## {key}\n" in text or f"{key}`" in text or part.get("properties")


@pytest.mark.parametrize(
    "part, words",
    [
        ({"type": "integer", "minimum": 1}, "whole number; from 1"),
        ({"type": ["number", "null"], "exclusiveMinimum": 0}, "number; above 0; null"),
        ({"type": "string", "enum": ["a", "b"]}, "a, b"),
        ({"type": "array", "items": {"type": "string"}}, "list of texts"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of a, b"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "number; from 0 to 1"),
    ],
)
def test_what_is_allowed_is_said_in_words(part, words):
    assert pages._allowed(part) == words


PAGES = [pages.PROJECT / "README.md", *sorted((pages.PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_configuration_that_a_page_shows_is_accepted(page):
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S):
        complete(yaml.safe_load(block), SCHEMA)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert all((page.parent / link).exists() for link in links)


def test_the_guide_of_astrodart_in_our_words_asks_for_the_same():
    """The numbers of its calls, one by one."""
    page = pages.PROJECT / "docs" / "astrodart.md"
    config = complete(yaml.safe_load(re.search(r"```yaml\n(.*?)```", page.read_text(), re.S)[1]), SCHEMA)
    for section in ("master_bias", "master_flat", "combine"):
        asked = {key: config[section][key] for key in ("method", "clip", "low", "high")}
        assert asked == {"method": "median", "clip": "sigclip", "low": 2, "high": 5}
    repaired = header.repair(
        fits.Header({"INSFILTE": "R", "OBJECT": "field"}), "uncal_data/230313/a.fits", config["header"]
    )
    assert (repaired["FILTER"], repaired["GAIN"], repaired["OBJECT"]) == ("R", 4.23, "M64")


def test_every_card_that_products_add_is_explained(small_night):
    """What no raw frame has and the standard of FITS or WCS does not define."""
    text = (pages.PROJECT / "docs" / "products.md").read_text()
    told = set(re.findall(r"[A-Z][A-Z0-9-]+n*", text)) | {f"NCORR{n}" for n in ("01", "02", "03", "05", "10")}
    raw_frames = list((small_night.folder / "raw").glob("*.fits"))
    known = {key for path in raw_frames for key in fits.getheader(path)}
    standard = re.compile(
        r"NAXIS\d?|EXTEND|C(D\d_\d|RPIX|RVAL|TYPE|UNIT)\d?|L(ONG|AT|ON)POLE|RADESYS|WCSAXES|LONGSTRN|FILTER|"
    )
    sip = re.compile(r"[AB]P?_(ORDER|DMAX|\d_\d)|HISTORY|COMMENT|GAIN|RDNOISE")
    for path in (small_night.folder / "results").rglob("*.fits"):
        for key in set(fits.getheader(path)) - known:
            plain = re.sub(r"\d+$", lambda digits: "n" * len(digits[0]), key)
            assert key in told or plain in told or standard.fullmatch(key) or sip.fullmatch(key), (path.name, key)
