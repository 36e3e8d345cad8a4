"""Cells that read files of tokens: against a plain loader, and against the same text as a text."""

import dataclasses
import hashlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.border.options import DataOptions, EvalOptions
from bench.border.spec import CorpusRef, RunSpec
from bench.records.tokenfiles import TokensAsked, find_tokens
from bench.worker import data, evaluation, positions
from bench.worker.data import Split, Tokens, placed, read_corpus
from bench.worker.evaluation import Evaluator
from bench.worker.training import Trainer
from bench.worker.windows import MappedWindows
from tests.builders.recorded import recorded_graphs
from tests.builders.tokenfiles import little, npy, shard
from tests.builders.worker_cells import TEXT, Ran, asking, run, spec_of

T = 8
CPU, GPU = torch.device("cpu"), torch.device("meta")  # of the latter there are sizes alone
FORMATS = (shard, little, npy)

Files = Mapping[str, Sequence[list[int]]]  # tokens of each file, by split


def some(n: int, seed: int = 1) -> list[int]:
    """Ids from the whole of uint16: as int16 half of them are below 0."""
    draw = random.Random(seed)
    return [draw.randrange(65_536) for _ in range(n)]


FILES: Files = {
    "train": [some(40, 1), some(9, 2), some(23, 3)],
    "val": [some(30, 4), some(26, 5)],
    "test": [some(17, 6), some(10, 7)],
}


def written(folder: Path, files: Files, vocab_size: int) -> tuple[CorpusRef, tuple[Path, ...]]:
    """On the disk, each file in another format; what a cell is told of them."""
    named: dict[str, list[str]] = {}
    number = 0
    for split, parts in files.items():
        for ids in parts:
            name = f"tokens_{number}.bin"
            (folder / name).write_bytes(FORMATS[number % 3](ids))
            named.setdefault(split, []).append(name)
            number += 1
    corpus = find_tokens(TokensAsked(named, vocab_size), folder)
    corpus.check(T, DataOptions())
    return corpus.ref, corpus.for_cells()


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    ref, paths = written(tmp_path, FILES, 65_536)
    return read_corpus(paths, ref, DataOptions())


# --- A loader in plain Python: files one after the other, no window over an end -----------------


def plain_windows(files: Sequence[list[int]]) -> list[list[int]]:
    return [ids[p : p + T + 1] for ids in files for p in range(len(ids) - T)]


def plain_starts(files: Sequence[list[int]]) -> list[int]:
    """Of the windows that do not overlap, counted through all files."""
    starts, before = list[int](), 0
    for ids in files:
        starts += [before + p for p in range(0, len(ids) - T, T)]
        before += len(ids) - T
    return starts


@pytest.mark.parametrize("split", FILES)
def test_windows_are_those_of_a_plain_loader(tokens: Tokens, split: str) -> None:
    windows = tokens.windows(split, T)
    expected = plain_windows(FILES[split])
    assert len(windows) == len(expected)
    everywhere = torch.arange(len(windows))
    assert windows.at(everywhere).tolist() == expected
    assert windows.at(everywhere).dtype == torch.int64
    mixed = torch.tensor(random.Random(1).sample(range(len(expected)), len(expected)))
    assert windows.at(mixed).tolist() == [expected[p] for p in mixed.tolist()]
    assert windows.n_tokens == sum(map(len, FILES[split]))


@pytest.mark.parametrize("split", FILES)
def test_in_one_piece_on_a_device_they_are_the_same(tokens: Tokens, split: str) -> None:
    """As a GPU has them, in the memory of the CPU."""
    whole = tokens.splits[split].on(CPU)
    assert whole.tensors[0].dtype == torch.int16
    windows = Tokens({"train": whole}, 65_536).windows("train", T)
    assert not isinstance(windows, MappedWindows)
    assert windows.at(torch.arange(len(windows))).tolist() == plain_windows(FILES[split])


@pytest.mark.parametrize("split", FILES)
def test_an_evaluation_takes_the_windows_of_each_file_that_do_not_overlap(
    tokens: Tokens, split: str
) -> None:
    evaluator = Evaluator(tokens, EvalOptions(train_windows=1_000), 2, T, 1)
    assert evaluator.starts(split, 0).tolist() == plain_starts(FILES[split])


@pytest.mark.parametrize("train_windows", [1, 2, 3, 5])
def test_training_windows_are_spread_over_all_files(tokens: Tokens, train_windows: int) -> None:
    evaluator = Evaluator(tokens, EvalOptions(train_windows=train_windows), 2, T, 1)
    every = plain_starts(FILES["train"])
    expected = [every[n * len(every) // train_windows] for n in range(train_windows)]
    assert evaluator.starts("train", 0).tolist() == expected


def test_files_are_mapped_and_not_read(tmp_path: Path) -> None:
    """A hole of 20 GB, which no memory here holds."""
    count, vocab_size = 10**10, 50_257
    path = tmp_path / "holes.bin"
    with path.open("wb") as file:
        file.truncate(2 * count)
    val = tmp_path / "val.bin"
    val.write_bytes(little(some(20)))
    empty = hashlib.sha256().hexdigest()
    content = {
        "vocab_size": vocab_size,
        "files": [
            {"split": split, "offset": 0, "count": n, "header_sha256": empty}
            for split, n in (("train", count), ("val", 20))
        ],
    }
    ref = CorpusRef.from_content({"name": "holes", "sha256": "0" * 64, "tokens": content})
    windows = read_corpus([path, val], ref, DataOptions()).windows("train", T)
    assert windows.at(torch.tensor([count - T - 1])).tolist() == [[0] * (T + 1)]


@pytest.mark.parametrize("damage", ["cut", "longer", "header"])
def test_a_file_that_is_another_is_refused_by_the_cell(tmp_path: Path, damage: str) -> None:
    ref, paths = written(tmp_path, FILES, 65_536)
    content = paths[0].read_bytes()
    changed = {"cut": content[:-2], "longer": content + b"\0\0", "header": b"\1" + content[1:]}
    paths[0].write_bytes(changed[damage])
    with pytest.raises(ValueError, match=r"tokens_0\.bin does not hold the 40 tokens.*--retry"):
        read_corpus(paths, ref, DataOptions())


# --- Whole cells --------------------------------------------------------------------------------


def of_files(spec: RunSpec, ref: CorpusRef) -> RunSpec:
    return dataclasses.replace(spec, corpus=ref)


def by_characters(folder: Path, *shares: float) -> tuple[CorpusRef, tuple[Path, ...]]:
    """The tests' text, a character a token, cut where a text is."""
    text = TEXT.decode()
    vocabulary = sorted(set(text))
    ids = [vocabulary.index(character) for character in text]
    n_train, end = DataOptions(shares).bounds(len(ids))
    parts: dict[str, list[list[int]]] = {"train": [ids[:n_train]], "val": [ids[n_train:end]]}
    if end < len(ids):
        parts["test"] = [ids[end:]]
    return written(folder, parts, len(vocabulary))


def figures(ran: Ran) -> list[Any]:
    """All of a run that is no time."""
    curve = [
        {name: value for name, value in row.items() if name != "train_time_s"}
        for row in ran.table("curve.csv")
    ]
    same = ("init_hash", "data_order_hash", "epochs", "tokens", "perplexity", "n_params")
    ends = [f"{split}_loss_final" for split in ("train", "val", "test")]
    return [ran.losses(), curve, [ran.row[name] for name in (*same, *ends)]]


@pytest.mark.parametrize("protocol", ["full", "sampled"])
@pytest.mark.parametrize("model", ["nanogpt", "nanokimi"])
def test_a_text_as_a_shard_of_characters_has_the_losses_of_the_text(
    tmp_path: Path, model: str, protocol: str
) -> None:
    """To the last digit."""
    shares = (0.7, 0.2, 0.1)
    spec = spec_of(model, "truemuon", protocol=protocol)
    as_text = run(tmp_path, dataclasses.replace(spec, data=DataOptions(shares)))
    ref, paths = by_characters(tmp_path, *shares)
    as_files = run(tmp_path, of_files(spec, ref), paths)
    assert figures(as_files) == figures(as_text)
    assert as_text.row["bits_per_char"] == as_text.row["val_loss_final"] / math.log(2)
    assert as_files.row["bits_per_char"] is None
    assert as_files.row["tokens_on"] == as_text.row["tokens_on"] == "host"


@pytest.fixture
def in_two(tmp_path: Path) -> tuple[RunSpec, tuple[Path, ...]]:
    """A cell on files of which each split has two."""
    sizes = {"train": (400, 300), "val": (90, 70)}
    files = {
        split: [[each % 50 for each in some(n, n)] for n in lengths]
        for split, lengths in sizes.items()
    }
    ref, paths = written(tmp_path, files, 50)
    return of_files(spec_of(steps=22, every=7), ref), paths


def test_a_cell_of_several_files_sees_the_batches_of_a_plain_loader(
    tmp_path: Path, in_two: tuple[RunSpec, tuple[Path, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, paths = in_two
    seen: list[Tensor] = []
    plain = Trainer.gradients

    def watched(trainer: Trainer, batch: Tensor) -> Any:
        seen.append(batch.clone())
        return plain(trainer, batch)

    monkeypatch.setattr(Trainer, "gradients", watched)
    ran = run(tmp_path, spec, paths)
    assert ran.result["status"] == "ok", ran.result["reason"]
    files = read_corpus(paths, spec.corpus, DataOptions()).splits["train"].tensors
    windows = plain_windows([each.tolist() for each in files])
    table = positions.BatchPositions(spec.seed, 22, 2, len(windows))
    expected = [[windows[p] for p in row.tolist()] for row in table]
    assert [batch.tolist() for batch in seen[-22:]] == expected
    assert ran.row["epochs"] == 22 * 2 * T / 700


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(evaluation, "EVAL_TOKENS", {"cpu": 32})
    with recorded_graphs() as found:
        yield found


@pytest.mark.parametrize("part", [2, 6, 14, positions.PART])
def test_graphs_find_their_rows_however_few_the_device_has_at_a_time(
    tmp_path: Path,
    in_two: tuple[RunSpec, tuple[Path, ...]],
    graphs: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    part: int,
) -> None:
    spec, paths = in_two
    monkeypatch.setattr(data.Tokens, "to", in_one_piece)
    expected = run(tmp_path, spec, paths)
    monkeypatch.setattr(positions, "PART", part)
    found = run(tmp_path, asking(spec, graph_steps=3), paths)
    losses = expected.losses()
    assert found.losses() == {step: losses[step] for step in found.losses()}
    assert found.row["val_loss_final"] == expected.row["val_loss_final"]
    assert found.row["data_order_hash"] == expected.row["data_order_hash"]
    assert found.row["graph_steps_share"] == 19 / 22


def in_one_piece(tokens: Tokens, device: torch.device, memory_bytes: int) -> Tokens:
    """As a GPU would have them."""
    splits = {name: split.on(device) for name, split in tokens.splits.items()}
    return Tokens(splits, tokens.vocab_size, device)


# --- Where tokens lie ---------------------------------------------------------------------------

SMALL = Tokens({"train": Split.of(torch.zeros(90, dtype=torch.int16))}, 10)  # 180 bytes


@pytest.mark.parametrize(("memory_bytes", "on_device"), [(720, True), (719, False)])
def test_what_is_beyond_a_share_of_the_gpus_memory_stays_on_the_host(
    memory_bytes: int, on_device: bool
) -> None:
    found = placed(SMALL, GPU, memory_bytes, graph_steps=0)
    assert found.device == GPU
    assert found.are_on_device == on_device
    assert isinstance(found.windows("train", T), MappedWindows) != on_device
    place = found.windows("train", T).place
    assert place == (GPU if on_device else CPU)
    tensor = found.splits["train"].tensors[0]
    assert (tensor.device, tensor.dtype) == (GPU if on_device else CPU, torch.int16)


def test_all_splits_together_count_and_a_text_as_it_is_on_a_gpu() -> None:
    two = Tokens({**SMALL.splits, "val": SMALL.splits["train"]}, 10)
    assert not placed(two, GPU, 1_439, 0).are_on_device
    assert placed(two, GPU, 1_440, 0).are_on_device
    text = Tokens({"train": Split.of(torch.zeros(90, dtype=torch.int32))}, 10)
    assert not placed(text, GPU, 4 * 720 - 1, 0).are_on_device
    on_gpu = placed(text, GPU, 4 * 720, 0).splits["train"].tensors[0]
    assert on_gpu.dtype == torch.int64


def test_graphs_of_what_stays_on_the_host_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"180 bytes are more than a share of 0\.25 of its 719"):
        placed(SMALL, GPU, 719, graph_steps=5)
    assert placed(SMALL, GPU, 720, graph_steps=5).are_on_device
    assert placed(SMALL, CPU, 0, graph_steps=5) is SMALL


def test_the_host_gathers_what_the_device_computes_with(tokens: Tokens) -> None:
    windows = MappedWindows(tokens.splits["train"].tensors, T, CPU)
    chosen = torch.tensor([31, 0, 32, 47, 33, 31])
    gathered = windows.gathered(chosen)
    assert gathered.dtype == torch.int16
    expected = plain_windows(FILES["train"])
    assert (gathered.long() & 0xFFFF).tolist() == [expected[p] for p in chosen.tolist()]
