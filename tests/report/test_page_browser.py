"""index.html in a real browser: what a reader sees and does, without a network.

Screenshots are left in $BENCH_ARTIFACTS, or tests/artifacts.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.report.build import build_report
from tests.builders import pages as page_results
from tests.builders.results import Results, two_arms
from tests.builders.visits import ARTIFACTS, WIDTHS, Visit

pytest_plugins = "tests.builders.browser"

LARGE_SEEDS = (2**63 - 2, 2**63 - 1, 2**53 + 1, 2**53, 2**63 - 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def pages(folder) -> dict[str, Path]:
    """Reports of every kind; the first one with its real pictures."""
    made = {"four": page_results.realistic(Results(folder / "four"))}
    build_report([made["four"]], made["four"] / "report")
    made["troubled"] = page_results.troubled(Results(folder / "troubled"))
    made["large"] = two_arms(Results(folder / "large"), LARGE_SEEDS).write()
    made["twelve"] = page_results.realistic(Results(folder / "twelve"), page_results.many_arms(12))
    made["none"] = page_results.none_ok(Results(folder / "none"))
    other = page_results.realistic(
        Results(folder / "other"), seeds=3, env_id="sha256:9999", runtime="docker"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.report.build.draw_all", page_results.stand_ins)
        for name in ("troubled", "large", "twelve", "none"):
            build_report([made[name]], made[name] / "report")
        build_report([made["four"], other], folder / "two" / "report")
    made["two"] = folder / "two"
    return {name: path / "report" / "index.html" for name, path in made.items()}


@pytest.fixture
def visit(browser, pages) -> Iterator:
    """Opens a page; in the end none may have complained or asked for anything but its own file."""
    visits = []

    def open_page(name="four", anchor="", width=1280, **options) -> Visit:
        visits.append(Visit(browser, pages[name], anchor, width, **options))
        return visits[-1]

    yield open_page
    for each in visits:
        each.context.close()
        assert each.complaints == []
        assert {url.partition("#")[0] for url in each.requests if url[:5] != "data:"} == {each.uri}


# --- it is seen


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["four", "troubled", "twelve", "two", "none"])
def test_it_opens_and_fits_its_window(visit, name, width):
    seen = visit(name, width=width)
    assert seen.overflow() == 0
    if name != "none":
        seen.draw()
    assert seen.overflow() == 0
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    seen.page.evaluate("scrollTo(0, 0)")
    seen.page.screenshot(path=ARTIFACTS / f"{name}-{width}-first-screen.png")
    seen.page.screenshot(path=ARTIFACTS / f"{name}-{width}.png", full_page=True)


def test_the_first_screen_has_the_verdict_and_the_claim(visit):
    page = visit().page
    for text in (
        "are better, each on 5 of 5",
        "20 of 20 runs ok",
        "The claim: final validation loss",
    ):
        box = page.get_by_text(text).first.bounding_box()
        assert box["y"] + box["height"] < WIDTHS[1280], text


def test_on_a_phone_the_name_of_a_row_stays_while_its_figures_scroll(visit):
    seen = visit(width=390)
    region = seen.block("Summary by configuration").locator(".table")
    region.scroll_into_view_if_needed()
    name = region.locator("tbody th").first
    before = name.bounding_box()["x"]
    region.evaluate("region => region.scrollLeft = 300")
    assert region.evaluate("region => region.scrollLeft") == 300
    assert name.bounding_box()["x"] == pytest.approx(before, abs=1)


# --- tables


def column(block, number: int) -> list[str]:
    cells = block.locator(f"tbody tr:visible > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def head(block, name: str):
    return block.get_by_role("columnheader", name=name, exact=True)


@pytest.mark.slow
def test_a_column_is_sorted_as_numbers_both_ways_and_back(visit):
    block = visit("troubled").block("Runs").first
    original = column(block, 8)
    losses = [float(text) for text in column(block, 6) if text != "n/a"]
    heading = head(block, "val. loss, final")
    heading.get_by_role("button").click()
    assert column(block, 6) == [f"{loss:.4f}" for loss in sorted(losses)] + ["n/a"] * 3
    assert heading.get_attribute("aria-sort") == "ascending"
    assert "sorted by val. loss, final, ascending" in block.get_by_role("status").inner_text()
    heading.get_by_role("button").click()
    assert column(block, 6) == [f"{loss:.4f}" for loss in sorted(losses)[::-1]] + ["n/a"] * 3
    assert heading.get_attribute("aria-sort") == "descending"
    heading.get_by_role("button").click()
    assert column(block, 8) == original
    assert heading.get_attribute("aria-sort") is None


def test_numbers_with_commas_and_marks_are_numbers(visit):
    block = visit("troubled").block("Runs").first
    head(block, "tokens / s").get_by_role("button").click()
    shown = [text for text in column(block, 12) if text != "n/a"]
    assert any("†" in text for text in shown)
    rates = [float(text.replace(",", "").rstrip("†")) for text in shown]
    assert rates == sorted(rates)
    assert rates[0] != rates[-1]


def test_equal_fields_keep_their_order(visit):
    block = visit().block("Runs").first
    head(block, "optimizer").get_by_role("button").click()
    rows = list(zip(column(block, 2), column(block, 1), column(block, 4), strict=True))
    models, seeds = ("nanogpt", "nanokimi"), "12345"
    assert rows == [
        (optimizer, model, seed)
        for optimizer in ("adamw", "truemuon")
        for model in models
        for seed in seeds
    ]


def test_seeds_are_sorted_and_named_to_their_last_digit(visit):
    """A number of JavaScript is whole only up to 2^53."""
    seen = visit("large")
    block = seen.block("Runs").first
    assert column(block, 4) == [str(seed) for seed in sorted(LARGE_SEEDS)] * 2  # arm by arm
    button = head(block, "seed").get_by_role("button")
    button.click()
    ascending = [str(seed) for seed in sorted(LARGE_SEEDS) for _ in range(2)]
    assert column(block, 4) == ascending
    button.click()
    assert column(block, 4) == ascending[::-1]
    seen.draw()
    named = {trace["name"].rpartition(" ")[2] for trace in seen.traces() if "seed" in trace["name"]}
    assert named == set(ascending)


def test_a_table_is_filtered_by_words(visit):
    block = visit().block("Runs").first
    status = block.get_by_role("status")
    assert status.inner_text() == "20 of 20 rows"
    field = block.get_by_label("Filter")
    field.fill("nanokimi TRUE")
    assert status.inner_text() == "5 of 20 rows"
    assert set(column(block, 1)) == {"nanokimi"}
    field.fill("nothing of the kind")
    assert status.inner_text() == "0 of 20 rows"
    field.fill("")
    assert len(column(block, 1)) == 20


def test_short_tables_have_no_filter(visit):
    assert visit().block("Summary by configuration").get_by_label("Filter").count() == 0


# --- curves


@pytest.mark.slow
def test_an_arm_is_switched_off_and_on(visit):
    seen = visit()
    seen.draw()
    assert len(seen.traces()) == 4 * (5 + 1)
    assert all(trace["visible"] for trace in seen.traces())
    seen.arm("nanokimi + adamw").uncheck()
    hidden = {trace["arm"] for trace in seen.traces() if not trace["visible"]}
    shown = {trace["arm"] for trace in seen.traces() if trace["visible"]}
    assert hidden == {"nanokimi + adamw"}
    assert len(shown) == 3
    assert seen.page.locator(".plot .scatterlayer .trace").count() == 3 * 6
    seen.page.get_by_label("single seeds").uncheck()
    assert seen.page.locator(".plot .scatterlayer .trace").count() == 3
    seen.arm("nanokimi + adamw").check()
    assert seen.page.locator(".plot .scatterlayer .trace").count() == 4


@pytest.mark.slow
def test_all_arms_are_switched_at_once_where_there_are_many(visit):
    seen = visit("twelve")
    seen.draw()
    seen.page.get_by_role("button", name="none", exact=True).click()
    assert not any(trace["visible"] for trace in seen.traces())
    seen.arm("nanokimi-7 + adamw").check()
    assert sum(trace["visible"] for trace in seen.traces()) == 6
    seen.page.get_by_role("button", name="all", exact=True).click()
    assert all(trace["visible"] for trace in seen.traces())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axis", "last"),
    [
        ("training steps", 10_000),
        ("training tokens", 5_120_000),
        ("training time (s)", 121.2),
        ("training operations (FLOP)", 5_120_000 * 6 * 209_729 + 10_000 * 2_936_206),
    ],
)
def test_curves_against_every_cost(visit, axis, last):
    seen = visit()
    seen.draw()
    seen.page.get_by_role("combobox").select_option(label=axis)
    first = next(trace for trace in seen.traces() if trace["name"] == "nanogpt + adamw, seed 1")
    assert first["last"] == pytest.approx(last, rel=0.02)
    assert seen.page.locator(".plot .xtitle").text_content() == axis


@pytest.mark.slow
def test_a_point_tells_arm_seed_costs_and_loss(visit):
    seen = visit()
    seen.draw()
    texts = seen.page.evaluate(
        "document.querySelector('.plot').data.map(({hovertext}) => hovertext[50])"
    )
    assert re.fullmatch(
        r"<b>nanogpt \+ adamw, seed 1</b><br>validation loss: <b>1\.\d{4}</b>"
        r"<br>training steps: 5,000<br>training tokens: 2,560,000"
        r"<br>training time \(s\): \d\d\.\d+<br>training operations \(FLOP\): [\d,]+",
        texts[0],
    )
    assert texts[-1].startswith("<b>nanokimi + truemuon, mean of 5</b>")
    plot = seen.page.locator(".plot .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    for share in (0.80, 0.84, 0.88, 0.92, 0.96):  # where the curves end
        seen.page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + share * box["height"])
        seen.page.wait_for_timeout(120)
        if seen.page.locator(".hoverlayer text").count():
            break
    assert "validation loss" in seen.page.locator(".hoverlayer text").first.text_content()


def test_an_arm_looks_as_in_the_pictures(visit):
    seen = visit()
    seen.draw()
    looks = seen.page.evaluate(
        """document.querySelector('.plot').data.slice(-4).map(
            ({line, marker}) => [line.color, line.dash, marker.symbol])"""
    )
    assert [look[0] for look in looks] == ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
    assert [look[2] for look in looks] == ["circle", "square", "triangle-up", "diamond"]
    assert len({look[1] for look in looks}) == 4


def test_a_browser_that_cannot_unpack_shows_the_pictures(browser, pages):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script("delete window.DecompressionStream")
    page = context.new_page()
    page.goto(pages["four"].as_uri())
    assert "cannot unpack" in page.locator(".message").inner_text()
    assert page.locator(".static img").first.is_visible()
    assert not page.locator(".interactive").is_visible()
    context.close()


# --- cells


def test_a_link_shows_a_cells_detail(visit):
    seen = visit()
    link = seen.block("Runs").first.locator("tbody a").nth(7)
    anchor = link.get_attribute("href")
    details = seen.page.locator(anchor)
    assert details.get_attribute("open") is None
    link.click()
    seen.page.wait_for_selector(f"{anchor}[open]")  # the event of a new address comes later
    assert details.get_by_text("n_embd 64").is_visible()
    assert details.get_by_text("step 2900: a line of the log").is_visible()
    assert details.get_by_role("link", name="worker.log").is_visible()
    details.locator("summary").click()
    assert details.get_attribute("open") is None
    link.click()  # the same link once more
    seen.page.wait_for_selector(f"{anchor}[open]")


def test_a_hash_shows_a_cells_detail(visit):
    first = visit()
    anchor = first.block("Runs").first.locator("tbody a").nth(3).get_attribute("href")
    details = visit(anchor=anchor).page.locator(anchor)
    assert details.get_attribute("open") is not None
    assert details.locator("summary").evaluate("it => it === document.activeElement")
    nothing = visit(anchor="#%")  # a hash that no page has, and that decodes to nothing
    assert nothing.page.locator("details[open]").count() == 0


# --- everybody can use it


@pytest.mark.slow
def test_by_keyboard_alone(visit):
    seen = visit()
    page = seen.page
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("it => it === document.activeElement")
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    visited: set[str] = set()
    wanted = {"button", "input", "select", "summary", "a", "div"}
    for _ in range(120):
        page.keyboard.press("Tab")
        visited.add(page.evaluate("document.activeElement.localName"))
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
    assert visited >= wanted - {"summary"}
    seen.draw()
    box = seen.arm("nanogpt + adamw")
    box.focus()
    page.keyboard.press("Space")
    assert {trace["arm"] for trace in seen.traces() if not trace["visible"]} == {"nanogpt + adamw"}
    block = seen.block("Runs").first
    head(block, "seed").get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert column(block, 4) == [seed for seed in "12345" for _ in range(4)]
    summary = page.locator("details.cell summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.cell").first.get_attribute("open") is not None


@pytest.mark.slow
def test_whatever_one_can_use_has_a_name(visit):
    """The accessible name that the browser itself computes, of every control and landmark."""
    seen = visit("troubled")
    seen.draw()
    session = seen.context.new_cdp_session(seen.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "checkbox", "combobox", "searchbox", "image", "table", "region"}
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]
    named = [(role, name) for role, name in found if role in roles]
    assert {role for role, _ in named} == roles
    assert [role for role, name in named if not name.strip()] == []
    assert next(name for role, name in found if role == "heading").startswith("Benchmark")


def test_texts_stand_out_from_their_ground(visit):
    """WCAG's contrast ratio, of every colour of text on the page against white or its ground."""
    seen = visit("troubled")
    seen.draw()
    colours = seen.page.evaluate(
        """[...new Set([...document.querySelectorAll('body *')]
            .filter(it => [...it.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
            .filter(it => !it.closest('svg, script, style'))
            .map(it => {
                let ground = it;
                while (ground && getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)')
                    ground = ground.parentElement;
                return getComputedStyle(it).color + ' on ' +
                    (ground ? getComputedStyle(ground).backgroundColor : 'rgb(255, 255, 255)');
            }))]"""
    )
    assert len(colours) >= 3
    for pair in colours:
        ink, ground = (
            luminance(*map(int, re.findall(r"\d+", colour)[:3])) for colour in pair.split(" on ")
        )
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, pair


def luminance(*rgb: int) -> float:
    shares = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * shares[0] + 0.7152 * shares[1] + 0.0722 * shares[2]


def test_without_scripts_tables_and_pictures_are_there(visit):
    seen = visit(java_script_enabled=False)
    page = seen.page
    assert page.get_by_role("heading", name="The claim: ").is_visible()
    assert page.locator(".block:has-text('Runs') tbody tr").first.is_visible()
    pictures = page.locator("img")
    assert pictures.count() >= 3
    assert all(picture.is_visible() for picture in pictures.all())
    assert page.locator(".interactive").is_hidden()
    assert page.locator("input, button, select").count() == 0
    page.locator("details.cell summary").first.click()
    assert page.get_by_text("n_embd 64").first.is_visible()


@pytest.mark.slow
def test_it_prints_tables_and_pictures_and_no_controls(visit):
    seen = visit()
    seen.draw()
    printed = seen.page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    seen.page.emulate_media(media="print")
    assert all(picture.is_visible() for picture in seen.page.locator(".static img").all())
    for hidden in (".interactive", "nav", ".controls >> nth=0"):
        assert not seen.page.locator(hidden).is_visible()
    # As wide as A4 without its margins, at 96 dots an inch: no table is cut off.
    seen.page.set_viewport_size({"width": 688, "height": 1000})
    assert seen.overflow() <= 0
    widths = seen.page.locator(".table").evaluate_all(
        "all => all.map(it => it.scrollWidth - it.clientWidth)"
    )
    assert max(widths) <= 1
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    (ARTIFACTS / "four-printed.pdf").write_bytes(printed)
