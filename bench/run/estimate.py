"""How long and how large a cell will be: as measured here before, else by its arithmetic."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.border.options import DecoderOptions, NanoGPTOptions, NanoKimiOptions, OwnModel
from bench.border.program import GivenValues
from bench.border.spec import RunSpec
from bench.records.rows import Row
from bench.records.tokenfiles import AnyCorpus

# A cautious CPU core in float32 at the sizes of these models, and what surrounds training.
# Measured cells replace these as soon as there is one.
FLOPS_PER_SECOND_AND_THREAD = 30e9
STARTUP_S = 5.0
TORCH_MIB = 300.0
BYTES_PER_PARAMETER = 16  # weight, gradient, two moments
ACTIVATIONS_PER_WIDTH = 30  # numbers kept for the backward pass, by layer, token and width


@dataclass(frozen=True)
class Estimate:
    """None where nothing is known; `basis` says where the figures come from."""

    wall_s: float | None
    memory_mib: float | None
    basis: str  # "measured", "rough" or "unknown"


def estimate_arms(
    specs: Iterable[RunSpec], corpus: AnyCorpus | None, rows: Iterable[Row]
) -> dict[str, Estimate]:
    """By arm_id: from its finished rows, else rough for the CPU, else unknown."""
    done: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == "ok":
            done[row["arm_id"]].append(row)
    first = {spec.arm_id: spec for spec in specs}
    return {arm_id: _estimate(spec, corpus, done[arm_id]) for arm_id, spec in first.items()}


def _estimate(spec: RunSpec, corpus: AnyCorpus | None, done: Sequence[Row]) -> Estimate:
    if done:
        wall_s, memory_mib = _median(done, "wall_time_s"), _median(done, "host_rss_peak_mib")
        return Estimate(wall_s, memory_mib, "measured")
    options = spec.model.options
    if spec.device != "cpu" or isinstance(options, OwnModel | GivenValues):
        return Estimate(None, None, "unknown")  # nobody knows the arithmetic of these
    assert corpus is not None  # what is trained here is trained on one
    return Estimate(
        _rough_wall_s(spec, options, corpus), _rough_memory_mib(spec, options, corpus), "rough"
    )


def _median(rows: Sequence[Row], column: str) -> float | None:
    values = [float(row[column]) for row in rows if row[column]]
    return median(values) if values else None


def n_params(options: DecoderOptions, vocab_size: int, block_size: int) -> int:
    """Parameters of a model by its formula, without building it."""
    d = options.n_embd
    norm = d * (2 if options.bias and options.norm == "layernorm" else 1)
    attention = 3 * d * d + _linear(d, d, options)
    if isinstance(options, NanoKimiOptions):
        n_experts = options.n_experts + options.n_shared_experts
        feed_forward = _linear(d, options.n_experts, options) + n_experts * _feed_forward(options)
    else:
        feed_forward = _feed_forward(options)
    blocks = options.n_layer * (2 * norm + attention + feed_forward)
    positions = block_size * d if options.position == "learned" else 0
    head = _linear(d, vocab_size, options)
    if options.tied_head:  # its matrix is the embedding's
        head -= d * vocab_size
    return vocab_size * d + positions + blocks + norm + head


def n_params_active(options: DecoderOptions, vocab_size: int, block_size: int) -> int:
    """Of these, what one token uses: of experts that it chooses among, the chosen ones."""
    total = n_params(options, vocab_size, block_size)
    if isinstance(options, NanoKimiOptions) and options.gating == "topk":
        passed_over = options.n_experts - options.top_k
        return total - options.n_layer * passed_over * _feed_forward(options)
    return total


def _feed_forward(options: DecoderOptions) -> int:
    """Of the dense one, or of one expert."""
    assert isinstance(options, NanoGPTOptions | NanoKimiOptions)
    d, h = options.n_embd, options.n_hidden
    up = 2 * h if options.is_gated else h
    return _linear(d, up, options) + _linear(h, d, options)


def _linear(inputs: int, outputs: int, options: DecoderOptions) -> int:
    return inputs * outputs + (outputs if options.bias else 0)


def _rough_wall_s(spec: RunSpec, options: DecoderOptions, corpus: AnyCorpus) -> float:
    train, evaluation, block = spec.train, spec.eval, spec.train.block_size
    per_token = 6 * n_params_active(options, corpus.vocab_size, block)
    trained = train.steps * train.batch_size * block
    lengths = corpus.lengths(spec.data)
    if evaluation.protocol == "sampled":
        evaluated = 2 * evaluation.batches * train.batch_size * block
    else:
        evaluated = lengths["val"] + min(evaluation.train_windows * block, lengths["train"])
    evaluations = 2 + (train.steps - 1) // evaluation.every
    forward = evaluations * evaluated + lengths.get("test", 0)  # the test split once
    flops = per_token * (trained + forward / 3)  # forward is a third of a step
    return STARTUP_S + flops / (FLOPS_PER_SECOND_AND_THREAD * train.threads)


def _rough_memory_mib(spec: RunSpec, options: DecoderOptions, corpus: AnyCorpus) -> float:
    train = spec.train
    parameters = BYTES_PER_PARAMETER * n_params(options, corpus.vocab_size, train.block_size)
    tokens = train.batch_size // train.accumulate * train.block_size  # that are kept at once
    activations = 4 * tokens * options.n_embd * options.n_layer * ACTIVATIONS_PER_WIDTH
    return TORCH_MIB + (parameters + activations + corpus.held_bytes) / 2**20
