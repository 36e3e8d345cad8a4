"""Text -> tokens -> batches -> evaluation windows, each against slices taken by hand."""

import hashlib
from array import array
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import initialise
from bench.border.options import DataOptions, EvalOptions, NanoGPTOptions
from bench.border.tokenised import tokenise
from bench.models import nanogpt
from bench.models.decoder import Decoder
from bench.records.corpora import MAX_VOCABULARY
from bench.worker import data, evaluation
from bench.worker.clocks import PhaseClock
from bench.worker.data import Split, Tokens, hash_tensor, read_tokens
from bench.worker.evaluation import Evaluator, cross_entropy, infer_times_ms
from bench.worker.positions import BatchPositions
from bench.worker.streams import torch_stream
from bench.worker.training import Trainer
from bench.worker.windows import Windows

CPU = torch.device("cpu")


def read(path: Path, content: bytes) -> Tokens:
    path.write_bytes(tokenise(content.decode()))
    return read_tokens(path, hashlib.sha256(content).hexdigest(), DataOptions())


def in_two(train: Tensor, val: Tensor, vocab_size: int) -> Tokens:
    return Tokens({"train": Split.of(train), "val": Split.of(val)}, vocab_size)


def parts_of(tokens: Tokens) -> dict[str, list[int]]:
    """Of a text, which is one file."""
    return {name: split.tensors[0].tolist() for name, split in tokens.splits.items()}


def all_of(tokens: Tokens) -> list[int]:
    return [token for part in parts_of(tokens).values() for token in part]


def every(windows: Windows) -> Tensor:
    """All windows: (positions, T + 1) int64."""
    return windows.at(torch.arange(len(windows)))


def text_of(windows: Windows) -> Tensor:
    """The tokens (n,) of a split of one file."""
    return torch.cat([every(windows)[0], every(windows)[1:, -1]])


def table(seed: int, steps: int, batch_size: int, n_windows: int) -> Tensor:
    """Positions (steps, B) in one piece."""
    return torch.stack(list(BatchPositions(seed, steps, batch_size, n_windows)))


# --- Tokens -------------------------------------------------------------------------------------


def test_a_token_is_a_characters_rank_in_the_sorted_vocabulary(tmp_path):
    tokens = read(tmp_path / "tokens", b"banana split")
    assert all_of(tokens) == [" abilnpst".index(character) for character in "banana split"]
    assert tokens.vocab_size == 9


def test_characters_are_ranked_by_code_point_and_line_ends_are_kept(tmp_path):
    text = "a𝄞\r\nÅ€￿\x00é𐀀"
    tokens = read(tmp_path / "tokens", text.encode())
    assert all_of(tokens) == [sorted(set(text)).index(character) for character in text]
    assert tokens.vocab_size == len(text)


@pytest.mark.parametrize("n_chars", [10, 11, 99, 100, 1_003])
def test_the_first_nine_tenths_train_and_the_rest_validates(tmp_path, n_chars):
    text = ("0123456789" * 101)[:n_chars]
    tokens = read(tmp_path / "tokens", text.encode())
    assert len(parts_of(tokens)["train"]) == n_chars * 9 // 10
    assert all_of(tokens) == [int(character) for character in text]


@pytest.mark.parametrize("split", [(0.8, 0.1, 0.1), (0.5, 0.5), (0.7, 0.2, 0.1)])
@pytest.mark.parametrize("n_chars", [10, 99, 1_003])
def test_shares_divide_a_text_from_its_start_and_leave_nothing_out(tmp_path, n_chars, split):
    text = ("0123456789" * 101)[:n_chars]
    (tmp_path / "tokens").write_bytes(tokenise(text))
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    tokens = read_tokens(tmp_path / "tokens", sha256, DataOptions(split))
    parts = parts_of(tokens)
    assert list(parts) == ["train", "val", "test"][: len(split)]
    assert all_of(tokens) == [int(one) for one in text]
    for part, share in zip(parts.values(), split, strict=True):
        assert abs(len(part) - share * n_chars) <= 1


def test_a_vocabulary_may_be_as_large_as_any_that_is_accepted(tmp_path):
    """Some of its ranks are code points of surrogates, which no text may hold."""
    text = "".join(map(chr, reversed(range(0x10000, 0x10000 + MAX_VOCABULARY))))
    tokens = read(tmp_path / "tokens", text.encode())
    assert all_of(tokens) == list(reversed(range(MAX_VOCABULARY)))


def test_a_text_longer_than_what_is_checked_at_once_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PART", 7)
    text = "ein Satz über längere Wörter" * 5
    assert all_of(read(tmp_path / "tokens", text.encode())) == [
        sorted(set(text)).index(character) for character in text
    ]


NOT_OF_BANANA = {
    "empty": [],
    "another text": [2, *b"an", 0, 1, 0],
    "cut off": [3, *b"abn", 1, 0, 2, 0, 2],
    "longer": [3, *b"abn", 1, 0, 2, 0, 2, 0, 0],
    "another token": [3, *b"abn", 1, 0, 2, 0, 2, 1],
    "no rank": [3, *b"abn", 1, 0, 2, 0, 2, 3],
    "below zero": [3, *b"abn", 1, 0, -1, 0, 2, 0],
    "another character": [3, *b"abm", 1, 0, 2, 0, 2, 0],
    "no character": [3, *b"ab", 0xD800, 1, 0, 2, 0, 2, 0],
    "beyond Unicode": [3, *b"ab", 0x110000, 1, 0, 2, 0, 2, 0],
    "out of order": [3, *b"ban", 0, 1, 2, 1, 2, 1],
    "a character twice": [4, *b"aabn", 2, 0, 3, 1, 3, 0],
    "a character that the text lacks": [4, *b"abcn", 1, 0, 3, 0, 3, 0],
    "a smaller vocabulary": [2, *b"abn", 1, 0, 2, 0, 2, 0],
    "a larger vocabulary": [4, *b"abn", 1, 0, 2, 0, 2, 0],
    "a vocabulary beyond the end": [2**31 - 1, *b"abn", 1, 0, 2, 0, 2, 0],
    "a vocabulary below zero": [-1, *b"abn", 1, 0, 2, 0, 2, 0],
    "the text itself": array("i", b"banana  ").tolist(),
}


@pytest.mark.parametrize("items", NOT_OF_BANANA.values(), ids=NOT_OF_BANANA)
def test_what_are_not_the_tokens_of_the_text_asked_for_is_refused(tmp_path, items):
    path, asked = tmp_path / "tokens", hashlib.sha256(b"banana").hexdigest()
    path.write_bytes(array("i", [3, *b"abn", 1, 0, 2, 0, 2, 0]).tobytes())
    assert all_of(read_tokens(path, asked, DataOptions())) == [1, 0, 2, 0, 2, 0]
    path.write_bytes(array("i", items).tobytes())
    says = rf"tokens does not hold the tokens of the text with SHA-256 {asked}.*--retry-failed"
    with pytest.raises(ValueError, match=says):
        read_tokens(path, asked, DataOptions())


def test_there_is_a_window_at_every_position_that_has_a_block_and_its_next_character():
    tokens = in_two(torch.arange(90), torch.arange(100, 110), 110)
    assert every(tokens.windows("train", 8)).tolist() == [list(range(p, p + 9)) for p in range(82)]
    assert every(tokens.windows("val", 8)).tolist() == [
        list(range(100, 109)),
        list(range(101, 110)),
    ]
    assert len(tokens.windows("val", 9)) == 1


# --- Batch positions ----------------------------------------------------------------------------


def test_positions_follow_from_the_seed_alone():
    first = table(7, 30, 4, 1_000)
    torch.manual_seed(0)
    np.random.seed(0)
    torch.rand(3)
    table(8, 5, 4, 1_000)
    assert torch.equal(table(7, 30, 4, 1_000), first)
    assert first.shape == (30, 4)
    assert first.dtype == torch.int64


def test_seeds_give_different_positions():
    hashes = {BatchPositions(seed, 10, 4, 1_000).order_hash for seed in (0, 1, 2, 3, 2**63 - 1)}
    assert len(hashes) == 5


def test_the_positions_of_a_seed_are_the_same_in_every_version():
    """A change here gives the same run_id to runs on other batches."""
    assert table(1, 2, 4, 1_000_000).tolist() == [
        [934245, 877283, 989735, 598997],
        [638955, 436448, 736480, 789727],
    ]


def test_a_longer_run_begins_as_a_shorter_one():
    long = table(3, 500, 16, 12_345)
    for steps in (1, 2, 37, 499):
        assert torch.equal(table(3, steps, 16, 12_345), long[:steps])


@pytest.mark.parametrize("n_windows", [1, 2, 7])
def test_every_window_is_drawn_equally_often_and_none_beyond(n_windows):
    counts = Counter(table(5, 1_000, 10, n_windows).flatten().tolist())
    assert set(counts) == set(range(n_windows))
    mean = 10_000 / n_windows
    assert all(abs(count - mean) <= 5 * mean**0.5 for count in counts.values())


class Recorder(nn.Module):
    """A model that keeps what it is shown, and is sure that b follows a, c follows b, ..."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.seen: list[Tensor] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen.append(tokens.clone())
        return F.one_hot((tokens + 1) % self.vocab_size, self.vocab_size) * 100 * self.scale


def test_a_training_batch_is_cut_where_the_table_says_and_its_targets_are_one_further():
    train = torch.arange(1_000, dtype=torch.int32) % 26  # abc...zabc..., as narrow as mapped ones
    windows = in_two(train, train, 26).windows("train", 8)
    positions = BatchPositions(1, 5, 3, len(windows))
    model = Recorder(26)
    trainer = Trainer(model, [], windows, positions, PhaseClock())
    losses = [trainer.step(row).item() for row in positions]
    for row, seen in zip(positions, model.seen, strict=True):
        assert seen.tolist() == [train[p : p + 8].tolist() for p in row.tolist()]
        assert seen.dtype == torch.int64
    assert losses == pytest.approx([0.0] * 5, abs=1e-6)  # it is always right


def test_the_loss_is_the_mean_over_all_tokens():
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(15).view(3, 5) % 7
    by_hand = [
        -logits[b, t].log_softmax(0)[targets[b, t]].item() for b in range(3) for t in range(5)
    ]
    assert cross_entropy(logits, targets).item() == pytest.approx(sum(by_hand) / 15)
    total = cross_entropy(logits, targets, reduction="sum").item()
    assert total == pytest.approx(sum(by_hand))


# --- Evaluation ---------------------------------------------------------------------------------


def evaluator(
    n_train: int = 300, n_val: int = 100, block_size: int = 8, seed: int = 1, **options: object
) -> Evaluator:
    text = torch.randint(5, (n_train + n_val,), generator=torch.Generator().manual_seed(9))
    tokens = in_two(text[:n_train], text[n_train:], 5)
    return Evaluator(tokens, EvalOptions(**options), 4, block_size, seed)


@pytest.fixture
def model() -> Decoder:
    model = nanogpt.build(NanoGPTOptions(n_embd=8, n_layer=1, n_head=2), 5, 8)
    initialise(model.stacks(), lambda name: torch_stream(1, name))
    return model


def loss_by_hand(model: Decoder, split: Tensor, starts: list[int], T: int) -> float:
    """One window at a time, one token at a time."""
    total = 0.0
    for start in starts:
        logits = model(split[None, start : start + T])[0].detach().double()
        for t in range(T):
            total -= logits[t].log_softmax(0)[split[start + t + 1]].item()
    return total / (len(starts) * T)


@pytest.mark.parametrize("block_size", [1, 2, 7, 8])
@pytest.mark.parametrize("n_val", [9, 10, 15, 16, 17, 18, 100])
def test_full_validation_takes_all_non_overlapping_windows_once(n_val, block_size):
    starts = evaluator(n_val=n_val, block_size=block_size).starts("val", 0).tolist()
    assert starts == [n * block_size for n in range((n_val - 1) // block_size)]
    assert starts[-1] + block_size + 1 <= n_val  # the last target is a character too


@pytest.mark.parametrize("chunk", [1, 40, 8_192])
def test_full_validation_is_the_mean_of_a_plain_loop(monkeypatch, model, chunk):
    monkeypatch.setattr(evaluation, "EVAL_TOKENS", {"cpu": chunk})  # 1, 5 and all windows a batch
    full = evaluator(n_val=100)
    val = text_of(full.windows["val"])
    expected = loss_by_hand(model, val, [8 * n for n in range(12)], 8)
    assert full.loss(model, "val", 0) == pytest.approx(expected, rel=1e-6)


def test_full_evaluation_of_the_training_split_is_the_mean_of_a_plain_loop(model):
    full = evaluator(n_train=300, train_windows=5)
    train = text_of(full.windows["train"])
    starts = full.starts("train", 0).tolist()
    expected = loss_by_hand(model, train, starts, 8)
    assert full.loss(model, "train", 0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("train_windows", [1, 2, 5, 30, 36])
def test_training_windows_are_spread_evenly_over_the_split(train_windows):
    starts = evaluator(n_train=300, train_windows=train_windows).starts("train", 0)  # 37 blocks
    assert len(starts) == train_windows
    assert starts[0] == 0
    assert not (starts % 8).any()
    gaps = {*starts.diff().tolist(), 37 * 8 - int(starts[-1])}  # as if it began again
    assert max(gaps) - min(gaps) <= 8
    assert min(gaps) >= 8


@pytest.mark.parametrize("train_windows", [37, 38, 500])
def test_a_split_with_fewer_windows_than_asked_for_is_taken_whole(train_windows):
    starts = evaluator(n_train=300, train_windows=train_windows).starts("train", 0)
    assert starts.tolist() == [n * 8 for n in range(37)]


@pytest.mark.parametrize("split", ["train", "val"])
def test_full_windows_are_the_same_at_every_step_and_seed(split):
    starts = [
        evaluator(seed=seed, train_windows=5).starts(split, step).tolist()
        for seed in (1, 2)
        for step in (0, 10)
    ]
    assert starts == [starts[0]] * 4


CALLS = [(split, step) for split in ("train", "val") for step in (0, 10, 20)]


def test_sampled_windows_follow_from_seed_step_and_split_alone():
    forwards = evaluator(n_train=100, n_val=100, protocol="sampled", batches=5)
    backwards = evaluator(n_train=100, n_val=100, protocol="sampled", batches=5)
    first = {call: forwards.starts(*call).tolist() for call in CALLS}
    torch.manual_seed(0)
    second = {call: backwards.starts(*call).tolist() for call in reversed(CALLS)}
    assert first == second
    assert len({tuple(starts) for starts in first.values()}) == len(CALLS)
    other = evaluator(n_train=100, n_val=100, protocol="sampled", batches=5, seed=2)
    assert all(other.starts(*call).tolist() != first[call] for call in CALLS)


def test_sampled_windows_are_as_many_batches_as_asked_for_from_the_whole_split():
    for split, n_windows in (("train", 300 - 8), ("val", 100 - 8)):
        starts = evaluator(protocol="sampled", batches=2_000).starts(split, 0)
        assert len(starts) == 2_000 * 4
        assert set(starts.tolist()) == set(range(n_windows))


def test_sampled_evaluation_is_the_mean_of_a_plain_loop(model):
    sampled = evaluator(protocol="sampled", batches=3)
    val = text_of(sampled.windows["val"])
    expected = loss_by_hand(model, val, sampled.starts("val", 7).tolist(), 8)
    assert sampled.loss(model, "val", 7) == pytest.approx(expected, rel=1e-6)


def test_evaluation_windows_are_not_the_training_batches():
    sampled = evaluator(protocol="sampled", batches=1)
    assert sampled.starts("train", 0).tolist() != table(1, 1, 4, 292)[0].tolist()


@pytest.mark.parametrize("protocol", ["full", "sampled"])
def test_evaluation_leaves_model_gradients_and_randomness_alone(model, protocol):
    before, randomness = hash_tensor(*model.parameters()), torch.get_rng_state()
    keeps: list[bool] = []
    model.register_forward_hook(lambda _, inputs, logits: keeps.append(logits.requires_grad))
    evaluator(protocol=protocol, batches=3).loss(model, "val", 0)
    assert hash_tensor(*model.parameters()) == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert set(keeps) == {False}  # no graph, and none of its memory
    assert torch.equal(torch.get_rng_state(), randomness)


class Clock:
    """Moves by so many milliseconds a forward pass of each round, and not otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: nn.Module, rounds: list[float]):
        self.ns, self.passes, self.rounds = 0, 0, rounds
        monkeypatch.setattr(evaluation.time, "monotonic_ns", lambda: self.ns)
        model.register_forward_hook(self.forward)

    def forward(self, *_: object) -> None:
        place = (self.passes - evaluation.INFER_WARMUP) // evaluation.INFER_ROUND
        self.ns += round(self.rounds[max(0, place)] * 1e6)
        self.passes += 1


def test_inference_is_timed_a_forward_pass_at_a_time(monkeypatch):
    model, batch = Recorder(5), torch.zeros(4, 8, dtype=torch.int64)
    Clock(monkeypatch, model, [3.0, 3.1])
    times = infer_times_ms(model, batch)
    assert times == [3.0] * evaluation.INFER_ROUND + [3.1] * evaluation.INFER_ROUND
    assert len(model.seen) == evaluation.INFER_WARMUP + len(times)
    assert all(seen.shape == (4, 8) for seen in model.seen)


def test_inference_is_timed_until_two_rounds_in_a_row_agree(monkeypatch):
    model, batch, beats = Recorder(5), torch.zeros(4, 8, dtype=torch.int64), []
    Clock(monkeypatch, model, [6.0, 4.5, 5.0, 5.2])
    times = infer_times_ms(model, batch, lambda: beats.append(1))
    assert set(times or []) == {5.0, 5.2}
    assert len(beats) == 4


def test_no_inference_time_is_told_where_none_agree(monkeypatch):
    model, batch = Recorder(5), torch.zeros(4, 8, dtype=torch.int64)
    clock = Clock(monkeypatch, model, [4.0, 5.0] * (evaluation.INFER_ROUNDS // 2))
    assert infer_times_ms(model, batch) is None
    assert clock.passes == (
        evaluation.INFER_WARMUP + evaluation.INFER_ROUNDS * evaluation.INFER_ROUND
    )


# --- Hashes -------------------------------------------------------------------------------------


def test_a_hash_of_tensors_follows_from_their_values():
    a, b = torch.arange(6).view(2, 3), torch.ones(2)
    assert hash_tensor(a, b) == hash_tensor(a.clone(), b.clone())
    assert hash_tensor(a.T.contiguous().T, b) == hash_tensor(a, b)  # not from their strides
    changed = a.clone()
    changed[1, 2] += 1
    assert len({hash_tensor(*x) for x in ((a, b), (b, a), (changed, b), (a,), (a.T, b))}) == 5
    assert hash_tensor(torch.zeros(1)) == hashlib.sha256(bytes(4)).hexdigest()[:12]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64, torch.float64])
def test_tensors_that_numpy_does_not_know_have_a_hash_too(dtype):
    value = torch.arange(6).to(dtype).view(2, 3)
    lazily = value.conj_physical().conj()
    assert hash_tensor(lazily, value[0, 0], value[:0]) == hash_tensor(value, value[0, 0].clone())
    assert hash_tensor(value.to_sparse()) == hash_tensor(value)
