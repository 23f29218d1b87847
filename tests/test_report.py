"""The report: what it tells is true, and it opens by itself in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from firstlight import io, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def results(small_night):
    return small_night.folder / "results"


@pytest.fixture(scope="module")
def page(results):
    return (results / "report.html").read_text()


class Page(HTMLParser):
    """Addresses that a page names, and what each picture is said to show."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.alts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [value for key, value in given.items() if key in ("src", "href", "srcset", "action")]
        self.alts += [given.get("alt")] if tag == "img" else []


def test_nothing_is_asked_from_anywhere(page):
    assert all(address.startswith(("data:", "#")) for address in Page(page).addresses)
    assert not re.search(r"url\((?!['\"]?data:)|@import|fetch\(|XMLHttpRequest", page)


def test_every_picture_says_what_it_shows(page):
    alts = Page(page).alts
    assert len(alts) >= 4 and all(alts)


def test_the_ledger_in_it_is_that_of_the_night(page, results):
    found = re.search(r'<script id="ledger-data" type="application/json">(.*?)</script>', page, re.S)[1]
    told = json.loads(found)
    rows = io.read_rows(results / "ledger.csv")
    assert sorted(told["columns"]) == sorted(rows[0])
    assert told["rows"] == [[row[name] for name in told["columns"]] for row in rows]


def test_each_stack_is_told_with_its_frames(page, results):
    for row in io.read_rows(results / "stacks.csv"):
        assert re.search(rf'<th scope="row">{row["filter"]}</th><td[^>]*>{row["frames"]}</td>', page)


def test_names_from_headers_cannot_end_the_script():
    nasty = "</script><img src=x onerror=alert(1)>"
    data = str(report.ledger_data([dict.fromkeys(report.LEDGER, nasty)]))
    assert "</script" not in data and nasty in json.loads(data)["rows"][0]


# --- In a browser -----------------------------------------------------------------------------------------------------
CHECKS = """
<script>
const said = [];
window.addEventListener("error", (event) => said.push("error: " + event.message));
const complain = console.error; console.error = (...words) => { said.push("console: " + words.join(" ")); complain(...words); };
window.addEventListener("load", () => {
  const bad = [...document.images].filter((one) => !one.naturalWidth).length;
  const asked = performance.getEntriesByType("resource").filter((one) => !one.name.startsWith("data:")).length;
  const table = document.getElementById("ledger-table");
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const before = column();
  const button = table.tHead.rows[0].cells[0].querySelector("button");
  button.click(); const up = column(); button.click(); const down = column();
  const search = document.querySelector("#files input, input"); search.value = "Flat_R"; search.dispatchEvent(new Event("input"));
  const result = { said, bad, pictures: document.images.length, asked, before, up, down, flats: column() };
  const place = document.createElement("pre"); place.id = "checked"; place.textContent = JSON.stringify(result);
  document.body.append(place);
});
</script>
"""


@pytest.fixture(scope="module")
def seen(page, tmp_path_factory):
    """What the page says of itself in headless Chromium, after clicks and a search."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: Debian's package chromium has it")
    copy = tmp_path_factory.mktemp("page") / "report.html"
    copy.write_text(page.replace("<head>", f"<head>{CHECKS}", 1))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="checked">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))


def test_the_browser_has_nothing_to_complain_about(seen):
    assert seen["said"] == []


def test_all_pictures_load_and_nothing_is_fetched(seen):
    assert seen["pictures"] >= 4 and seen["bad"] == 0 and seen["asked"] == 0


def test_a_click_sorts_the_ledger(seen):
    assert seen["up"] == sorted(seen["before"]) and seen["down"] == seen["up"][::-1] and len(seen["up"]) > 10


def test_a_search_finds_the_files(seen):
    assert seen["flats"] and all("Flat_R" in name for name in seen["flats"])
