"""`site`: which bundles it holds, where they come from, and what lies in its folder."""

import functools
import hashlib
import http.server
import json
import shutil
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from bench import __version__
from bench.errors import BundleError, FolderError, RequestError
from bench.report.build import build_report
from bench.report.bundle import make_bundle
from bench.report.site import shelf
from bench.report.site.build import build_site
from tests.builders.pages import stand_ins
from tests.builders.shared import bench
from tests.builders.sites import commit, made_up, packed, results_of, shelve


def made(out: Path, *bundles: Path, previous: str | None = None) -> list[str]:
    """Make a site; what was said."""
    said: list[str] = []
    build_site(out, bundles, previous, "", said.append)
    return said


def index_of(out: Path) -> dict:
    return json.loads((out / "index.json").read_text())


def files_of(out: Path) -> list[str]:
    """Names of its bundles, the newest first, which the disk has as well."""
    names = [entry["file"] for entry in index_of(out)["bundles"]]
    assert sorted(path.name for path in (out / "bundles").iterdir()) == sorted(names)
    stems = {name.removesuffix(".tar.gz") for name in names}
    assert {path.name for path in (out / "reports").iterdir()} == stems
    assert {path.name for path in out.iterdir()} == {
        "bundles",
        "reports",
        "index.html",
        "index.json",
    }
    return names


def content(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """A results folder with its report, without real pictures, and the bundle of both."""
    place = tmp_path_factory.mktemp("real")
    results = results_of(place / "cpu", 30)
    results.write()
    (results.path / "matrix.yaml").write_text("name: cpu\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.report.build.draw_all", stand_ins)
        build_report([results.path], results.path / "report")
    make_bundle([results.path], place / "real.tar.gz")
    return place / "real.tar.gz"


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr("bench.report.build.draw_all", stand_ins)


# --- what lies there


def test_a_real_bundle_becomes_a_site(real: Path, tmp_path: Path):
    said = made(tmp_path / "site", real)
    name = f"20261109T0431Z-{commit(30)[:7]}-cpu.tar.gz"
    assert said == []
    assert files_of(tmp_path / "site") == [name]
    assert (tmp_path / "site" / "bundles" / name).read_bytes() == real.read_bytes()
    (entry,) = index_of(tmp_path / "site")["bundles"]
    assert entry["sha256"] == hashlib.sha256(real.read_bytes()).hexdigest()
    assert entry["runs"] == {"ok": 32, "selected": 32, "told": "32 of 32 runs ok"}
    assert entry["git_commits"] == [commit(30)]
    assert entry["version"] == __version__
    assert entry["hosts"] == [{"host_id": "host1", "host_cpu_model": "A processor"}]
    assert next(arm["label"] for arm in entry["arms"]) == "nanogpt + adamw, cpu"
    report = tmp_path / "site" / entry["report"]
    assert "32 of 32 runs ok" in report.read_text()
    assert (report.parent.parent / "runs.csv").is_file()


def test_the_index_has_the_figures_of_the_rows(few: Path, out: Path, tmp_path: Path):
    made(out)
    newest = index_of(out)["bundles"][0]
    rows = results_of(tmp_path / "rows" / "cpu", 3).runs
    (arm,) = (arm for arm in newest["arms"] if arm["label"] == "nanokimi + truemuon, cpu")
    losses = {
        str(row["seed"]): row["val_loss_final"]
        for row in rows
        if (row["model"], row["optimizer"]) == ("nanokimi", "truemuon")
    }
    assert arm["figures"]["val_loss_final"]["by_seed"] == losses
    mean = sum(losses.values()) / len(losses)
    assert arm["figures"]["val_loss_final"]["mean"] == pytest.approx(mean)
    assert set(arm["figures"]) == {
        *("val_loss_final", "step_time_ms_p50", "tokens_per_s", "host_rss_peak_mib")
    }


def test_all_is_made_anew_from_the_bundles_and_twice_the_same(out: Path, few: Path):
    made(out)
    first = content(out)
    shutil.rmtree(out / "reports")
    (out / "index.html").write_text("of another day")
    made(out)
    assert content(out) == first
    made(out, previous=str(few))  # a folder without an index: bundles alone are no site
    assert content(out) == first


def test_the_same_content_twice_is_one_bundle(out: Path, real: Path, tmp_path: Path):
    twin = Path(shutil.copy(real, tmp_path / "twin.tar.gz"))
    said = made(out, real, twin)
    assert len(files_of(out)) == 5
    assert "twin.tar.gz is there already: 20261109T0431Z" in said[0]
    assert "is there already" in made(out, real)[0]
    assert len(files_of(out)) == 5


def test_two_bundles_of_one_minute_get_two_names(out: Path, tmp_path: Path):
    results = results_of(tmp_path / "again" / "cpu", 3, host_id="host2")
    again = shelve(tmp_path / "shelf", results, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.report.site.build._check", lambda file: None)
        made(out, again)
    digits = hashlib.sha256(again.read_bytes()).hexdigest()[:8]
    plain = f"20261013T0431Z-{commit(3)[:7]}-cpu"
    assert {f"{plain}.tar.gz", f"{plain}-{digits}.tar.gz"} < set(files_of(out))


def test_runs_that_two_bundles_have_count_once(out: Path, tmp_path: Path):
    """Of one results folder that grew, or was reported on again, the state that has all stays."""
    results = results_of(tmp_path / "cpu", 3)
    for name in ("20261013T0500Z-aaaaaaa-cpu.tar.gz", "20261013T0600Z-bbbbbbb-cpu.tar.gz"):
        results.ended(
            results.planned(seed=90 + len(results.runs)), started_at=results.runs[-1]["started_at"]
        )
        packed(results, out / "bundles" / name)
    said = made(out)
    assert files_of(out)[0] == "20261013T0600Z-bbbbbbb-cpu.tar.gz"
    assert len(files_of(out)) == 4
    assert len(said) == 2
    assert all("is left out: all its runs are in 20261013T0" in line for line in said)


def test_bundles_that_share_some_runs_are_an_error(out: Path, tmp_path: Path):
    results = results_of(tmp_path / "cpu", 3)
    results.ended(results.planned(seed=99), started_at=results.runs[-1]["started_at"])
    results.runs.pop(0)
    packed(results, out / "bundles" / "20261013T0500Z-aaaaaaa-cpu.tar.gz")
    with pytest.raises(BundleError, match="have runs in common, which would count twice"):
        made(out)


def test_arms_are_former_ones_where_the_newest_bundle_of_their_name_lacks_them(
    out: Path, tmp_path: Path
):
    """Bundles of a CPU and of a GPU in turn: neither makes the other's arms old."""
    gpu = results_of(tmp_path / "gpu", 8, device="cuda", arm_id="", gpu_name="A GPU")
    for row in (*gpu.plan, *gpu.runs):
        row["device"] = "cuda"
        row["arm_id"] = f"cuda {row['model']} {row['optimizer']}"
        row["run_id"] = f"{row['arm_id']} {row['seed']}"
    packed(gpu, out / "bundles" / "20261018T0431Z-aaaaaaa-gpu.tar.gz")
    made(out)
    page = (out / "index.html").read_text()
    assert "nanogpt + adamw, cpu" in page
    assert "nanogpt + adamw, cuda" in page
    assert "Not in the newest bundles" not in page


# --- what is pruned


@pytest.mark.slow
def test_the_newest_fifty_stay(tmp_path: Path):
    made_up(tmp_path / "site", tmp_path / "work", count=52)
    oldest = sorted(path.name for path in (tmp_path / "site" / "bundles").iterdir())[:2]
    said = made(tmp_path / "site")
    assert len(files_of(tmp_path / "site")) == 50
    assert [line.split()[1] for line in said] == oldest[::-1]
    assert all(line.startswith("pruned: ") and "50 bundles of 900 MiB" in line for line in said)
    assert made(tmp_path / "site") == []


def test_of_these_as_many_stay_as_fit_and_the_newest_always(out: Path, monkeypatch):
    made(out)
    names = files_of(out)
    sizes = [
        sum(path.stat().st_size for path in (out / "reports" / stem).rglob("*") if path.is_file())
        + (out / "bundles" / f"{stem}.tar.gz").stat().st_size
        for stem in (name.removesuffix(".tar.gz") for name in names)
    ]
    monkeypatch.setattr(shelf, "MOST_SITE_BYTES", sum(sizes[:2]))
    assert [line.split()[1] for line in made(out)] == names[2:]
    assert files_of(out) == names[:2]
    monkeypatch.setattr(shelf, "MOST_SITE_BYTES", 1)
    made(out)
    assert files_of(out) == names[:1]


# --- what is refused, with the site left as it was


def test_a_bundle_that_is_not_verified_is_refused(out: Path, tmp_path: Path):
    made(out)
    before = content(out)
    forged = packed(results_of(tmp_path / "cpu", 7), tmp_path / "forged.tar.gz")
    with pytest.raises(BundleError, match=r"forged.tar.gz is not verified:\ncpu/report/"):
        made(out, forged)
    assert content(out) == before


def test_a_damaged_bundle_is_named(out: Path):
    made(out)
    file = sorted((out / "bundles").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-300])
    before = content(out)
    with pytest.raises(BundleError, match=f"{file.name} cannot be read: .*damaged"):
        made(out)
    assert content(out) == before


def test_a_damaged_row_and_a_newer_schema_are_named(out: Path, tmp_path: Path):
    newer = results_of(tmp_path / "newer" / "cpu", 8, schema_version=2)
    file = shelve(out / "bundles", newer, 8)
    with pytest.raises(BundleError, match=f"{file.name} cannot be read: .*schema_version 2"):
        made(out)
    file.unlink()
    broken = results_of(tmp_path / "broken" / "cpu", 8, val_loss_final="much")
    file = shelve(out / "bundles", broken, 8)
    with pytest.raises(BundleError, match=f"{file.name} cannot be read: .*damaged lines"):
        made(out)


def test_a_bundle_without_any_time_has_no_place(out: Path, tmp_path: Path):
    results = results_of(tmp_path / "cpu", 8)
    for row in results.runs:
        row["started_at"] = ""
    packed(results, out / "bundles" / "20261018T0431Z-aaaaaaa-cpu.tar.gz")
    with pytest.raises(BundleError, match="none of its rows tells when it ran"):
        made(out)


def test_what_is_no_bundle_of_a_site_is_left_alone(out: Path):
    (out / "bundles" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes.txt is no bundle that a site was given"):
        made(out)


def test_a_folder_that_is_no_site_is_not_written_over(real: Path, tmp_path: Path):
    (tmp_path / "index.html").write_text("my own page")
    with pytest.raises(FolderError, match=r"is no site: it has index.html and no index.json"):
        made(tmp_path, real)
    assert (tmp_path / "index.html").read_text() == "my own page"


def test_a_site_of_nothing_and_addresses_that_are_none(tmp_path: Path):
    with pytest.raises(RequestError, match="no bundle for this site"):
        made(tmp_path / "site")
    for where in ("ftp://example.org/site", "https://", "javascript://x", "file://elsewhere/site"):
        with pytest.raises(RequestError, match="--previous"):
            made(tmp_path / "site", previous=where)
    with pytest.raises(RequestError, match="--repository"):
        build_site(tmp_path / "site", [], None, "javascript:alert(1)", print)


# --- a site that is published


class Quiet(http.server.SimpleHTTPRequestHandler):
    broken = ""  # what of the site the server fails at
    asked: ClassVar[list[tuple[str, str]]] = []  # (path, Cache-Control)

    def do_GET(self):
        self.asked.append((self.path, self.headers["Cache-Control"]))
        if self.broken and self.broken in self.path:
            self.send_error(500)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def served(out: Path):
    """A published site of four bundles: its folder, and its address."""
    made(out)
    handler = type("Handler", (Quiet,), {"asked": []})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=out.parent)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield out, f"http://127.0.0.1:{server.server_port}/{out.name}", handler
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("ending", ["", "/", "/index.html", "/index.json"])
def test_the_bundles_of_a_published_site_stay(served, real: Path, tmp_path: Path, ending: str):
    folder, address, _ = served
    said = made(tmp_path / "new", real, previous=address + ending)
    assert said == [f"{address}: 4 bundles fetched"]
    assert files_of(tmp_path / "new")[1:] == files_of(folder)
    assert made(tmp_path / "new", previous=address) == []


def test_an_index_in_a_cache_would_lack_the_latest_bundles(served, tmp_path: Path):
    _, address, handler = served
    for name in ("one", "two"):
        made(tmp_path / name, previous=address)
    asked = [path for path, _ in handler.asked if "index.json" in path]
    assert len(set(asked)) == 2
    assert {control for _, control in handler.asked} == {"no-cache"}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_published_site_may_be_a_folder(served, tmp_path: Path, kind: str):
    folder, _, _ = served
    made(tmp_path / "new", previous=str(folder) if kind == "folder" else folder.as_uri())
    assert content(tmp_path / "new") == content(folder)


def test_no_index_is_a_new_site(served, real: Path, tmp_path: Path):
    _, address, _ = served
    nowhere = (f"{address}/nowhere", str(tmp_path / "none"), (tmp_path / "none").as_uri())
    for number, where in enumerate(nowhere):
        said = made(tmp_path / f"new{number}", real, previous=where)
        assert said == [f"{where} has no index.json: this is a new site"]


@pytest.mark.parametrize("broken", ["index.json", "bundles/"])
def test_any_other_failure_is_an_error(served, real: Path, tmp_path: Path, broken: str):
    _, address, handler = served
    handler.broken = broken
    with pytest.raises(BundleError, match=f"{broken}.* cannot be read: HTTP Error 500"):
        made(tmp_path / "new", real, previous=address)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_server_that_does_not_answer_is_an_error(real: Path, tmp_path: Path):
    with pytest.raises(BundleError, match=r"cannot be read: .*refused"):
        made(tmp_path / "new", real, previous="http://127.0.0.1:9/site")


def change_index(folder: Path, **fields) -> None:
    index = index_of(folder)
    index["bundles"][0] |= fields
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "name",
    [
        *("../../etc/passwd", "/etc/passwd", "..", "", "20261013T0431Z-1234567-a/../b.tar.gz"),
        *("20261013T0431Z-1234567-cpu.tar.gz\n", ".20261013T0431Z-1234567-cpu.tar.gz", 7, None),
    ],
)
def test_a_name_in_an_index_is_no_path(out: Path, tmp_path: Path, name):
    made(out)
    change_index(out, file=name)
    with pytest.raises(BundleError, match="no name of a bundle"):
        made(tmp_path / "new", previous=str(out))


@pytest.mark.parametrize("sha256", ["", "A" * 64, None, "0" * 63])
def test_a_bundle_without_its_sha256_is_an_error(out: Path, tmp_path: Path, sha256):
    made(out)
    change_index(out, sha256=sha256)
    with pytest.raises(BundleError, match="states no SHA-256"):
        made(tmp_path / "new", previous=str(out))


def test_a_bundle_that_is_another_or_missing_is_an_error(out: Path, tmp_path: Path):
    made(out)
    newest, second = sorted((out / "bundles").iterdir())[:2]
    newest.write_bytes(second.read_bytes())
    with pytest.raises(BundleError, match="is not the file whose SHA-256"):
        made(tmp_path / "new", previous=str(out))
    newest.unlink()
    with pytest.raises(BundleError, match=r"is not there, and index.json names it"):
        made(tmp_path / "new", previous=str(out))


def test_another_file_here_under_the_same_name_is_an_error(out: Path, tmp_path: Path):
    made(out)
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    first, second = sorted((copy / "bundles").iterdir())[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(BundleError, match="is another file than"):
        made(copy, previous=str(out))


@pytest.mark.parametrize(
    "text",
    ["<html>not there</html>", "[]", '{"schema": "bench-site/1"}', "[" * 100_000, '{"bundles": 1}'],
)
def test_what_is_no_index_is_an_error(out: Path, tmp_path: Path, text: str):
    (out / "index.json").write_text(text)
    with pytest.raises(BundleError, match="is no index of a site"):
        made(tmp_path / "new", previous=str(out))


def test_an_index_of_a_newer_version_is_an_error(out: Path, tmp_path: Path):
    made(out)
    index = index_of(out) | {"schema": "bench-site/2"}
    (out / "index.json").write_text(json.dumps(index))
    with pytest.raises(BundleError, match="schema bench-site/2"):
        made(tmp_path / "new", previous=str(out))


def test_sizes_are_bounded(out: Path, tmp_path: Path, monkeypatch):
    made(out)
    monkeypatch.setattr("bench.report.site.previous.MOST_SITE_BYTES", -(4 * 2**30) + 1000)
    with pytest.raises(BundleError, match="is too large for a site"):
        made(tmp_path / "new", previous=str(out))
    monkeypatch.setattr("bench.report.site.previous.MOST_INDEX_BYTES", 1000)
    with pytest.raises(BundleError, match="is larger than"):
        made(tmp_path / "new", previous=str(out))


# --- the command


@pytest.mark.slow
def test_the_command_says_what_changed_and_where_the_site_is(out: Path, tmp_path: Path):
    answer = bench("site", out, "--repository", "https://example.org/who/bench/")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"No change in 4 bundles.\nsite: {out / 'index.html'}\n"
    page = (out / "index.html").read_text()
    assert f'href="https://example.org/who/bench/commit/{commit(0)}"' in page
    answer = bench("site", tmp_path / "new", "--previous", str(out))
    assert answer.stderr == f"{out}: 4 bundles fetched\n"
    answer = bench("site", tmp_path / "none", tmp_path / "none.tar.gz")
    assert answer.returncode == 2
    assert "none.tar.gz" in answer.stderr


def test_hostile_texts_are_escaped(out: Path, tmp_path: Path):
    evil = '<script>alert("x")</script>'
    results = results_of(tmp_path / "cpu", 8, host_cpu_model=evil, gpu_name=f"{evil}gpu")
    for row in (*results.plan, *results.runs):
        row["model"] = f"{evil}{row['model']}"
    shelve(out / "bundles", results, 8)
    build_site(out, [], None, 'https://example.org/"><script>', print)
    page = (out / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
