"""The site in a real browser, at both widths, from disk.

Screenshots are left in $BENCH_ARTIFACTS, or tests/artifacts.
"""

import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.report.site.build import build_site
from tests.builders.sites import commit, made_up, results_of, shelve
from tests.builders.visits import ARTIFACTS, WIDTHS, Visit

pytest_plugins = "tests.builders.browser"

CHANGES = [
    f"2026-11-20 {commit(41)[:7]}: nanokimi + adamw, cpu: worse: host memory +10.",
    f"2026-11-12 {commit(33)[:7]}: nanogpt + adamw, cpu: worse: step time +14.",
    f"2026-10-30 {commit(20)[:7]}: nanokimi + truemuon, cpu: worse: final validation loss +0.02",
]


@pytest.fixture(scope="module")
def troubled(tmp_path_factory) -> Path:
    """Twelve bundles; in the last, cells fail, and an arm is not there any more."""
    out, work = tmp_path_factory.mktemp("troubled") / "site", tmp_path_factory.mktemp("results")
    made_up(out, work, count=12, planted=(), elsewhere=())
    results = results_of(work / "12" / "cpu", 12, git_dirty="true")
    arm = ("nanogpt", "adamw")
    for row in results.runs:
        if (row["model"], row["optimizer"]) == arm and row["seed"] in (2, 5):
            row["status"] = "crashed"
    gone = ("nanokimi", "truemuon")
    for table in (results.plan, results.runs):
        table[:] = [row for row in table if (row["model"], row["optimizer"]) != gone]
    shelve(out / "bundles", results, 12)
    build_site(out, [], None, "", print)
    return out


@pytest.fixture
def visit(browser, fifty, troubled) -> Iterator:
    """Opens a site; in the end it may not have complained, or asked for another file."""
    visits = []

    def open_site(name="fifty", width=1280) -> Visit:
        place = {"fifty": fifty, "troubled": troubled}[name]
        visits.append(Visit(browser, place / "index.html", width=width))
        return visits[-1]

    yield open_site
    for each in visits:
        each.context.close()
        assert each.complaints == []
        assert {url.partition("#")[0] for url in each.requests} == {each.uri}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["fifty", "troubled"])
def test_it_opens_and_fits_its_window(visit, name, width):
    seen = visit(name, width)
    assert seen.overflow() == 0
    seen.page.locator("summary").evaluate_all("all => all.forEach(one => one.click())")
    assert seen.overflow() == 0
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    seen.page.screenshot(path=ARTIFACTS / f"site-{name}-{width}-first-screen.png")
    seen.page.screenshot(path=ARTIFACTS / f"site-{name}-{width}.png", full_page=True)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_three_changes_and_no_others_are_on_the_first_screen(visit, width):
    page = visit(width=width).page
    lines = page.locator(".changes li")
    told = [" ".join(text.split()) for text in lines.all_inner_texts()]
    assert len(told) == len(CHANGES)
    for text, expected in zip(told, CHANGES, strict=True):
        assert text.startswith(expected)
    box = lines.last.bounding_box()
    assert box["y"] + box["height"] < WIDTHS[width]
    assert page.locator(".verdict").inner_text() == "3 changes for the worse in 50 bundles."


@pytest.mark.parametrize("width", WIDTHS)
def test_marks_in_the_pictures_are_read_without_colour(visit, width):
    """By word and sign, in letters that are large enough; throughput is the step time's twin."""
    page = visit(width=width).page
    labels = page.locator(".flag text")
    texts = labels.all_text_contents()
    assert [text.rpartition(".")[0] for text in texts] == [
        *("worse +14", "worse -12", "worse +10", "worse +0"),
    ]
    for label in labels.all():
        box = label.bounding_box()
        assert box["height"] >= 10
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width


@pytest.mark.parametrize("name", ["fifty", "troubled"])
def test_every_link_leads_to_a_file_or_to_a_commit(visit, name):
    page = visit(name).page
    links = page.locator("a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    commits = 0
    for link in set(links):
        address = urllib.parse.urlsplit(urllib.parse.urljoin(page.url, link))
        if address.scheme == "https":
            assert link.startswith("https://example.org/who/bench/commit/")
            commits += 1
        elif address.fragment:
            assert page.locator(f"[id='{address.fragment}']").count() == 1
        else:
            assert Path(urllib.request.url2pathname(address.path)).is_file(), link
    assert commits == (50 if name == "fifty" else 0)


def test_a_point_leads_to_the_report_of_its_bundle(visit, fifty):
    seen = visit()
    point = seen.page.locator(".trend").nth(1).locator("svg a").nth(33)
    assert point.locator("title").text_content().startswith(f"2026-11-12 04:31 {commit(33)[:7]}: ")
    href = point.get_attribute("href")
    assert href == f"reports/20261112T0431Z-{commit(33)[:7]}-cpu/report/index.html"
    assert (fifty / href).is_file()


def test_the_table_has_every_bundle_newest_first_and_what_changed_in_it(visit):
    rows = visit().page.locator("#bundles tbody tr")
    texts = [text.split("\t") for text in rows.all_inner_texts()]
    assert len(texts) == 50
    assert [row[0] for row in texts] == sorted((row[0] for row in texts), reverse=True)
    assert {49 - place for place, row in enumerate(texts) if "worse" in row} == {20, 33, 41}
    assert all("32 of 32" in row for row in texts)


def test_failed_seeds_and_an_arm_that_is_gone_are_told(visit):
    page = visit("troubled").page
    told = [" ".join(text.split()) for text in page.locator(".changes li").all_inner_texts()]
    assert told == [
        f"2026-10-22 {commit(12)[:7]} (with changes): nanogpt + adamw, cpu: worse: "
        "2 of 8 seeds crashed"
    ]
    assert page.locator(".flag text").all_text_contents() == ["worse 2 of 8 seeds crashed"]
    assert "22 of 24 runs ok, 2 crashed" in page.locator(".coverage").inner_text()
    gone = page.locator("details.former")
    assert gone.locator("summary").inner_text() == (
        "Not in the newest bundles: nanokimi + truemuon, cpu"
    )
    assert "In 12 of 13 bundles." in gone.text_content()


def test_hollow_points_are_of_another_machine_and_told_once(visit):
    page = visit().page
    assert page.get_by_text("Hollow points").count() == 1
    of_one_arm = page.locator(".arm").first.locator(".trend")
    counts = [trend.locator(".hollow").count() for trend in of_one_arm.all()]
    assert counts == [0, 3, 3, 3]
