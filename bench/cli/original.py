"""`original`: the published comparison made here, its seven figures beside the published ones."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from bench.cli.common import (
    INTERRUPTED,
    GpusOption,
    JobsOption,
    RuntimeOption,
    WaitOption,
    out,
)
from bench.cli.running import run
from bench.errors import RequestError
from bench.matrix.packaged import FOLDER
from bench.records.corpora import DEFAULT_FILE, TINYSHAKESPEARE_SHA256, TINYSHAKESPEARE_URL
from bench.records.folder import ResultsFolder
from bench.records.rows import Row, read_table
from bench.run.gpus import IDLE
from bench.statistics.text import NOT_AVAILABLE, aligned, counted

MATRIX = FOLDER / "original.yaml"
STEPS = 10_000  # of the published comparison
GRAPH = "comparison_graph.png"

ARMS = (("nanogpt", "adamw"), ("nanokimi", "truemuon"))


@dataclass(frozen=True)
class Published:
    """A figure of the original's README, of ARMS in their order, and what is measured here."""

    name: str
    figures: tuple[str, str]
    column: str  # of summary.csv; empty: it depends on the device
    unit: float  # of the figure, in those of the column
    decimals: int


PUBLISHED = (
    Published("validation loss", ("1.7285", "1.6756"), "val_loss_final_mean", 1, 4),
    Published("perplexity", ("5.63", "5.34"), "perplexity_mean", 1, 2),
    Published("parameters, M", ("0.21", "0.28"), "n_params", 1e6, 2),
    Published("training iteration, s", ("0.0508", "0.1264"), "step_time_ms_p50_mean", 1e3, 4),
    Published("inference, s", ("0.0060", "0.0081"), "infer_time_ms_p50_mean", 1e3, 4),
    Published("memory, MB", ("0.03", "0.01"), "", 1e6 / 2**20, 2),
    Published("parameter efficiency", ("26.85", "19.21"), "param_efficiency_mean", 1, 2),
)


def original(
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    steps: Annotated[int, typer.Option(help="training iterations", min=1)] = STEPS,
    seeds: Annotated[int, typer.Option(help="the seeds 1 to N", min=1, metavar="N")] = 5,
    runtime: RuntimeOption = "auto",
    jobs: JobsOption = "auto",
    gpus: GpusOption = IDLE,
    wait_for_gpu: WaitOption = False,
) -> None:
    """Make the published comparison on input.txt, and print its figures beside the published."""
    if device not in ("cpu", "cuda"):
        raise RequestError(f"--device {device}: write cpu or cuda.")
    if not Path(DEFAULT_FILE).is_file():
        raise RequestError(
            f"there is no {DEFAULT_FILE} in this folder. The comparison was published on "
            f"tinyshakespeare: save {TINYSHAKESPEARE_URL} as {DEFAULT_FILE}."
        )
    # A folder for each number of steps: runs of different lengths are not one comparison.
    name = f"comparison-{device}" if steps == STEPS else f"comparison-{device}-{steps}-steps"
    folder = ResultsFolder(Path("results", name))
    with tempfile.TemporaryDirectory(prefix="bench-original-") as place:
        matrix = Path(place, "matrix.yaml")
        matrix.write_text(derived(name, device, steps, seeds), encoding="utf-8")
        try:
            run(
                *(matrix, folder.path, runtime),
                jobs=jobs,
                gpus=gpus,
                wait_for_gpu=wait_for_gpu,
                with_report=True,
            )
        except typer.Exit as ended:
            if ended.exit_code != INTERRUPTED:
                _tell(folder, device, steps)
            raise


def derived(name: str, device: str, steps: int, seeds: int) -> str:
    """The shipped matrix under another name, on one device, with so many steps and seeds."""
    content: dict[str, Any] = yaml.safe_load(MATRIX.read_text(encoding="utf-8"))
    content["name"] = name
    content["train"]["steps"] = steps
    content["matrix"] |= {"device": [device], "seed": list(range(1, seeds + 1))}
    return yaml.safe_dump(content, sort_keys=False)


def _tell(folder: ResultsFolder, device: str, steps: int) -> None:
    """The table, and the picture put where the original puts it."""
    summary, graph = folder.report / "summary.csv", folder.report / GRAPH
    rows = read_table(summary) if summary.is_file() else []
    if not graph.is_file():
        out.print(
            f"no {GRAPH}: the report has none that shows every run. No run has ended well, or "
            f"{folder.path} holds runs of several kinds; move it away and begin again."
        )
        return
    out.print("\n".join(["", *beside(rows, device, steps)]), soft_wrap=True)
    shutil.copyfile(graph, GRAPH)
    out.print(f"picture: {GRAPH}")


def beside(rows: Sequence[Row], device: str, steps: int) -> Iterator[str]:
    """The published figures and those of a summary.csv, as lines."""
    from bench.records.columns import memory_columns  # on use: it needs what the report needs

    memory = f"{memory_columns(device)[0]}_mean"
    by_arm = {(row["model"], row["optimizer"]): row for row in rows}
    columns = [["", "", *(figure.name for figure in PUBLISHED)]]
    for number, arm in enumerate(ARMS):
        row = by_arm.get(arm, {})
        pairs = [(figure.figures[number], _here(figure, row, memory)) for figure in PUBLISHED]
        columns.append([" + ".join(arm), *aligned([("published", "here"), *pairs], ())])
    yield from aligned(list(zip(*columns, strict=True)), left=(0,))
    yield from _notes([by_arm[arm] for arm in ARMS if arm in by_arm], steps)


def _notes(made: Sequence[Row], steps: int) -> Iterator[str]:
    """How far the figures are alike."""
    seeds, timed = (
        min((int(row[name]) for row in made), default=0) for name in ("n_seeds", "n_seeds_timing")
    )
    yield f"Here: means over {counted(seeds, 'seed')} (times: {timed}), after {steps:,} iterations."
    yield f"Published: one seed, after {STEPS:,} iterations, on another machine."
    yield (
        "The published loss, and its perplexity, is the lowest of 101 evaluations; here it is the "
        "last. The published iteration holds evaluations; here it is training alone."
    )
    yield (
        "The two memories are no like figures: published is how much resident memory a step adds, "
        "here is a peak, of the whole process on a CPU, of what torch allocates on a GPU."
    )
    if any(row["corpus_sha256"] != TINYSHAKESPEARE_SHA256 for row in made):
        yield f"{DEFAULT_FILE} is another text than tinyshakespeare: no loss can be compared."


def _here(figure: Published, row: Mapping[str, str], memory: str) -> str:
    """What is measured here, as the figure was published."""
    value = row.get(figure.column or memory)
    return f"{float(value) / figure.unit:,.{figure.decimals}f}" if value else NOT_AVAILABLE
