"""index.html as a text: one file, whole, valid, escaped, of bounded size, always the same."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from bench.merge.merging import merge
from bench.report.build import build_report
from bench.report.page import html, traces, views
from bench.report.page.citing import citation, commands, commands_note
from bench.report.page.html import as_json
from bench.report.page.traces import MOST_POINTS, thinned
from bench.report.plots.style import MARKERS, styles
from tests.builders import pages as page_results
from tests.builders.results import Results, sections_of, two_arms

VOID = {"meta", "link", "img", "br", "hr", "input"}
MEGABYTE, CELL = 10**6, 10_000  # what a page and a cell may take


class Document(HTMLParser):
    """A page's elements; an end tag that does not fit its start tag is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.inside: dict[str, list[str]] = {}  # tag -> the texts of such elements
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)
            self.inside.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        for tag in set(self.open):
            self.inside[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(*folders: Path, out: Path | None = None) -> str:
    out = out or folders[0] / "report"
    build_report(folders, out)
    return (out / "index.html").read_text(encoding="utf-8")


@pytest.fixture(autouse=True, scope="module")
def _stand_ins():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.report.build.draw_all", page_results.stand_ins)
        yield


@pytest.fixture(scope="module")
def troubled(tmp_path_factory) -> Path:
    folder = page_results.troubled(Results(tmp_path_factory.mktemp("page") / "troubled"))
    build_report([folder], folder / "report")
    return folder


@pytest.fixture(scope="module")
def text(troubled) -> str:
    return (troubled / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text) -> Document:
    return Document(text)


# --- structure


def test_the_verdict_comes_first_then_coverage_then_the_claim(page):
    whole = page.inside["body"][0]
    order = [
        "nanokimi + truemuon is undecided",
        "17 of 20 runs ok, 1 diverged, 1 crashed, 1 open",
        "disturbed the timings of 2 runs",
        "The claim: ",
        "Model or optimizer?",
        "Summary by configuration",
        "What it ran on",
        "Runs that are not ok",
        "Runs in detail",
        "Where the rows come from",
        "Definitions",
        "Cite and reproduce",
    ]
    body = whole.replace("\n", " ")
    header = page.inside["header"][0]
    assert order[0] in header
    assert order[1] in header
    places = [body.index(words, body.index("Skip to")) for words in order[:3]]
    main = page.inside["main"][0]
    places_in_main = [main.index(words) for words in order[3:]]
    assert places == sorted(places)
    assert places_in_main == sorted(places_in_main)


def test_a_screen_reader_finds_its_way(page):
    assert [tag for tag, _ in page.tags].count("h1") == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("header", "main", "nav"):
        assert len(page.all(landmark)) == 1
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("a")[0]["href"] == "#main"
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))


def test_each_id_is_there_once_and_each_link_within_the_page_leads_somewhere(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {link["href"][1:] for link in page.all("a") if link["href"].startswith("#")}
    labels = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    assert targets <= set(ids)
    assert labels <= set(ids)
    assert len([target for target in targets if target.startswith("cell-")]) == 20


def test_links_to_files_lead_to_files(page, troubled):
    links = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
    assert len(links) == 19 * 4  # of the cell that was not run there are none
    assert all((troubled / "report" / link).is_file() for link in links)


# --- self-contained


def test_nothing_is_loaded_from_anywhere(page, text):
    loading = [
        (tag, name, value)
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "data", "action", "poster", "background", "srcdoc")
        or (name == "href" and tag != "a")
    ]
    assert loading
    assert all(value.startswith("data:image/png;base64,") for _, _, value in loading)
    assert not re.search(r"url\(|@import", html.own("page.css"))
    assert {tag for tag, _ in page.tags}.isdisjoint({"iframe", "object", "embed", "link", "base"})


def test_the_policy_lets_these_scripts_run_and_nothing_else(page):
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    scripts = zip(page.all("script"), page.inside["script"], strict=True)
    runs = [content for attributes, content in scripts if "type" not in attributes]
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in [*runs, get_plotlyjs()]
    ]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in hashes]
    assert not [name for _, attributes in page.tags for name in attributes if name[:2] == "on"]


def test_plotly_is_inside_as_it_is(page):
    scripts = zip(page.all("script"), page.inside["script"], strict=True)
    (packed,) = [content for attributes, content in scripts if attributes.get("id") == "plotly"]
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


def test_without_curves_there_is_no_plotly(new):
    page = page_of(page_results.none_ok(new()))
    Document(page)
    assert 'id="plotly"' not in page
    assert len(page) < 100_000
    assert "no GPU here" in page


def test_pictures_beyond_the_limit_are_linked(new, monkeypatch):
    folder = page_results.realistic(new(), seeds=2, evaluations=5)
    monkeypatch.setattr(html, "MOST_PICTURES", 3 * len(page_results.picture(1400, 600)))
    page = Document(page_of(folder))
    links = [a["href"] for a in page.all("a") if a["href"].endswith(".png")]
    assert links == ["loss_steps.png", "loss_seconds.png"]
    assert len(page.all("img")) == 2
    assert all((folder / "report" / link).is_file() for link in links)


# --- names are only text

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    '"><img src=x onerror=alert(2)>',
    "a\u2028b\u2029c",
    "{{ 7 * 7 }}",
    "&lt;b&gt;",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(new, name):
    folder, harmless = two_arms(new("a")), two_arms(new("b"))
    for results, model in ((folder, name), (harmless, "harmless")):
        for row in (*results.plan, *results.runs):
            row["model"] = model
    pages = [Document(page_of(results.write())) for results in (folder, harmless)]
    assert [tag for tag, _ in pages[0].tags] == [tag for tag, _ in pages[1].tags]
    shown = " ".join(name.split())
    assert shown in " ".join(pages[0].inside["main"][0].split())
    data = [json.loads(script) for script in pages[0].inside["script"] if script[:1] == "{"]
    labels = [" ".join(arm["label"].split()) for arm in data[0]["arms"]]
    assert labels == [f"{shown} + adamw", f"{shown} + muon"]


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.recursive(st.text() | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_json_holds_what_it_was_given_and_ends_no_script(data):
    text = as_json(data)
    assert json.loads(text) == data
    assert not re.search("[<>&\u2028\u2029]", text)


# --- size


def grown(folder: Results, arms: int, seeds: int, evaluations=2000) -> str:
    """The page over this many cells, each with a long curve, a long log and all its files."""
    return page_of(page_results.realistic(folder, page_results.many_arms(arms), seeds, evaluations))


@pytest.mark.slow
def test_size_of_four_and_of_two_hundred_cells(new, monkeypatch):
    monkeypatch.setattr(page_results, "LOG", "a long & <hostile> line of a log\n" * 3000)
    room = 5 * MEGABYTE - html.MOST_PICTURES
    four = len(grown(new("four"), 2, 2).encode())
    assert four < room + 4 * CELL
    many = len(grown(new("many"), 40, 5, 200).encode())
    assert many < room + 200 * CELL
    assert (many - four) / 196 < CELL


def test_beyond_two_hundred_cells_the_page_shows_arms_only(new):
    text = grown(new(), 67, 3, 20)  # 201 cells
    page = Document(text)
    assert len(text.encode()) < 5 * MEGABYTE - html.MOST_PICTURES
    assert page.all("details") == [{}]  # the definitions
    assert "This page shows configurations only: there are 201 runs" in text
    assert "/worker.log" not in text
    (data,) = [json.loads(script) for script in page.inside["script"] if script[:1] == "{"]
    assert len(data["arms"]) == 67
    assert all(arm["seeds"] == [] and arm["mean"] for arm in data["arms"])
    assert "nanokimi-67 + adamw" in page.inside["main"][0]


def test_many_failed_cells_are_told_by_arm(new, monkeypatch):
    monkeypatch.setattr(views, "MOST_CELLS", 3)
    folder = two_arms(new(), seeds=(1,))
    for seed in (2, 3, 4):
        run_id = folder.planned(seed=seed)
        folder.ended(run_id, "crashed", reason="it broke", stage="train")
    page = Document(page_of(folder.write()))
    (table,) = [text for text in page.inside["table"] if "it broke" in text]
    assert "".join(table.split()).endswith("firstgptadamwcpucrashedtrain3itbroke")


def test_the_same_rows_give_the_same_bytes(new):
    folder = page_results.troubled(new())
    one, two = page_of(folder), page_of(folder)
    assert one == two


# --- curves as data


def test_curves_are_those_of_the_section(new):
    (section,) = sections_of(two_arms(new()))
    data = traces.traces(section, styles(arm.label for arm in section.arms), seeds=True)
    assert [axis["key"] for axis in data["axes"]] == ["steps", "tokens", "seconds", "flops"]
    adamw, muon = data["arms"]
    assert (adamw["label"], adamw["colour"], adamw["dash"]) == ("gpt + adamw", "#0072B2", "solid")
    assert muon["dash"] == "12.5px,3.75px"
    first = adamw["seeds"][0]["curves"]
    arrays = data["arrays"]
    assert arrays[first["steps"][0]] == list(range(0, 101, 10))
    assert arrays[first["tokens"][0]] == list(range(0, 1001, 100))
    assert arrays[first["seconds"][0]][-1] == 5
    assert arrays[first["flops"][0]][-1] == 1000 * 10 + 100 * 100
    assert arrays[first["steps"][1]][-1] == pytest.approx(2.01 + 2.5 * np.exp(-100 / 15))
    mean = arrays[adamw["mean"]["steps"][1]]
    seeds = [arrays[seed["curves"]["steps"][1]] for seed in adamw["seeds"]]
    assert mean == pytest.approx(np.mean(seeds, axis=0).tolist())
    assert len(arrays) == len({tuple(array) for array in arrays})


def test_an_axis_that_no_arm_knows_is_left_out(new):
    (section,) = sections_of(two_arms(new(), flops_per_token=None))
    data = traces.traces(section, styles(arm.label for arm in section.arms), seeds=True)
    assert [axis["key"] for axis in data["axes"]] == ["steps", "tokens", "seconds"]


def test_long_curves_are_thinned_and_keep_their_ends():
    for length in (1, 2, MOST_POINTS, MOST_POINTS + 1, 10_000):
        array = np.arange(float(length))
        kept = thinned(array)
        assert len(kept) == min(length, MOST_POINTS)
        assert (kept[0], kept[-1]) == (0, length - 1)
        assert (np.diff(kept) > 0).all()


def test_of_too_many_arms_the_best_have_curves(new, monkeypatch):
    monkeypatch.setattr(traces, "MOST_ARMS", 1)
    (section,) = sections_of(two_arms(new()))
    data = traces.traces(section, styles(arm.label for arm in section.arms), seeds=True)
    assert [arm["label"] for arm in data["arms"]] == ["gpt + muon"]
    assert data["note"] == "1 of 2 configurations: those of the lowest final loss."


def test_every_marker_has_a_symbol_that_the_script_knows():
    assert set(traces.SYMBOLS) == set(MARKERS)
    script = html.own("curves.js")
    drawn = dict(re.findall(r'^    "?([a-z-]+)"?: "(M[^"]+)",$', script, re.MULTILINE))
    assert set(drawn) == set(traces.SYMBOLS.values())
    for path in drawn.values():
        ElementTree.fromstring(f'<path d="{path}"/>')


# --- to cite and to repeat


def test_the_citation_names_rows_and_not_the_day_of_building(new):
    merged = merge([page_results.realistic(new(), seeds=1, files=False)])
    assert citation(merged) == (
        "bench-matrix 0.1.0. Results of the matrix made-up: 4 runs, made 2026-01-01. "
        "Commit 41dd5e13fa0b, worker code SHA-256 code1."
    )


def test_the_commands_of_one_and_of_several_folders(new):
    first = page_results.realistic(new("it's"), seeds=1, files=False)
    merged = merge([first])
    assert commands(merged) == (
        "git checkout 41dd5e13fa0b",
        """python -m bench run 'it'"'"'s/matrix.yaml' --out again --runtime local""",
        "python -m bench report again",
    )
    other = page_results.realistic(
        new("b"), seeds=1, files=False, git_commit="abc", git_dirty="true", host_id="host2"
    )
    both = merge([first, other])
    assert commands(both)[-1] == "python -m bench report again-1 again-2 --out report"
    assert not any("checkout" in line for line in commands(both))
    assert "several commits" in commands_note(both)
    assert "not committed" in commands_note(both)
    assert "not committed" not in commands_note(merged)
