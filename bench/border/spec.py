"""One cell: what was asked of it (RunSpec), who it is (run_id), where its files lie (CellFiles)."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.border.identity import SCHEMA_VERSION, code_sha256, digest, program_code_sha256
from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    OWN,
    DataOptions,
    DecoderOptions,
    EvalOptions,
    OptimizerOptions,
    OwnModel,
    OwnOptimizer,
    TrainOptions,
    asked,
)
from bench.border.program import BASE, LATE, GivenValues, Program, values_of

# What a worker spends its time on, in order; a column `<phase>_time_s` each.
# `wait` is for its turn: see bench/border/turns.py.
PHASES = (
    *("import", "data", "build", "compile", "warmup"),
    *("train", "wait", "eval", "checkpoint", "infer"),
)


@dataclass(frozen=True)
class Model:
    """As the matrix names it: a built-in `base` with settings, a class, or values of a program."""

    name: str
    base: str
    options: DecoderOptions | OwnModel | GivenValues

    @cached_property  # a matrix's cells share it
    def asked(self) -> dict[str, Any]:
        return {"base": self.base, **asked(self.options)}


@dataclass(frozen=True)
class Optimizer:
    """As the matrix names it: a built-in `base` with settings, a class, or values of a program."""

    name: str
    base: str
    options: OptimizerOptions | OwnOptimizer | GivenValues

    @cached_property
    def asked(self) -> dict[str, Any]:
        return {"base": self.base, **asked(self.options)}


@dataclass(frozen=True)
class TokenFile:
    """One file of token ids: all of it from a byte on, as little-endian uint16."""

    split: str  # "train", "val" or "test"
    offset: int  # bytes before the first token
    count: int  # tokens
    header_sha256: str  # of the bytes before the first token


@dataclass(frozen=True)
class TokenFiles:
    """Files of token ids in the order in which a cell is given their paths."""

    vocab_size: int
    files: tuple[TokenFile, ...]


@dataclass(frozen=True)
class CorpusRef:
    """A text, or files of tokens, by name and content; where it lies is the launcher's business."""

    name: str
    sha256: str
    # None: a text. Its hash tells these files apart, so that they are not compared as well.
    tokens: TokenFiles | None = field(default=None, compare=False)

    @property
    def n_files(self) -> int:
        """How many files a cell reads: of a text the one of its token ids."""
        return len(self.tokens.files) if self.tokens else 1

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "CorpusRef":
        """Of what spec.json holds of it."""
        told = content["tokens"]
        if told is None:
            return cls(**content)
        files = tuple(TokenFile(**each) for each in told["files"])
        return cls(**{**content, "tokens": TokenFiles(told["vocab_size"], files)})


def settings_text(train: TrainOptions, evaluation: EvalOptions, data: DataOptions) -> str:
    """What of training, evaluation and data differs from the defaults, as canonical JSON."""
    sections = {"train": asked(train), "eval": asked(evaluation), "data": asked(data)}
    changed = {name: settings for name, settings in sections.items() if settings}
    return json.dumps(changed, sort_keys=True)


@dataclass(frozen=True)
class RunSpec:
    """All that decides a cell's losses, and nothing else."""

    model: Model
    optimizer: Optimizer
    device: str  # "cpu" or "cuda"
    seed: int
    train: TrainOptions
    eval: EvalOptions
    corpus: CorpusRef
    data: DataOptions = field(default_factory=DataOptions)
    # A training script in place of our own training: then the four above mean nothing.
    program: Program | None = None

    @cached_property
    def run_id(self) -> str:
        return digest({**self._asked_of_arm, "seed": self.seed})

    @cached_property
    def arm_id(self) -> str:
        """Identity without the seed: summaries group by it, never by a name alone."""
        return digest(self._asked_of_arm)

    @property
    def settings(self) -> str:
        """What all arms of its matrix share, but for the text."""
        if self.program is not None:
            return json.dumps({"program": self.program.shared}, sort_keys=True)
        return settings_text(self.train, self.eval, self.data)

    @property
    def steps(self) -> int | None:
        """Training steps; None where only the program knows."""
        return self.train.steps if self.program is None else self.program.steps

    @property
    def threads(self) -> int:
        """Threads of one operator."""
        return self.train.threads if self.program is None else self.program.threads

    @property
    def gpus(self) -> int:
        """How many GPUs it has at once."""
        if self.device != "cuda":
            return 0
        return 1 if self.program is None else self.program.gpus

    @property
    def can_take_turns(self) -> bool:
        """Whether it can train in turn with others: beside it, a GPU would hold theirs as well."""
        return self.program is None and self.device == "cpu"

    @property
    def has_test(self) -> bool:
        """Whether there is a test split, whose loss is taken after the last step."""
        if self.corpus.tokens is not None:
            return any(file.split == "test" for file in self.corpus.tokens.files)
        return len(self.data.shares) > 2

    @property
    def code_sha256(self) -> str:
        """Of the files of ours that its process runs."""
        return code_sha256() if self.program is None else program_code_sha256()

    @property
    def is_ours(self) -> bool:
        """Whether no code of the matrix's takes part."""
        return self.program is None and OWN not in (self.model.base, self.optimizer.base)

    @property
    def own_code(self) -> tuple[str, ...]:
        """SHA-256 of the code that the matrix brings for this cell, each once."""
        if self.program is not None:
            return (self.program.code_sha256,)
        options = (self.model.options, self.optimizer.options)
        found = [each.code_sha256 for each in options if isinstance(each, OwnModel)]
        return tuple(dict.fromkeys(sha256 for sha256 in found if sha256))

    @cached_property
    def _asked_of_arm(self) -> dict[str, Any]:
        if self.program is not None:
            known = self.optimizer.base == BASE  # else its settings follow from trials
            late = {name: f"\0{name}" for name in LATE}  # no text that a program holds
            return {
                "schema": SCHEMA_VERSION,
                "program": self.program.filled({**self.values, **late}).asked,
                "device": self.device,
                **({} if known else {"optimizer": self.optimizer.base}),
            }
        divided = asked(self.data)
        return {
            "schema": SCHEMA_VERSION,
            "model": self.model.asked,
            "optimizer": self.optimizer.asked,
            "device": self.device,
            "train": asked(self.train),
            "eval": asked(self.eval),
            "corpus_sha256": self.corpus.sha256,
            **({"data": divided} if divided else {}),  # younger than the first run_ids
        }

    @property
    def values(self) -> dict[str, Any]:
        """What placeholders of its program stand for, but for those of one run."""
        assert self.program is not None
        each = [(one.name, one.options) for one in (self.model, self.optimizer)]
        given = [(name, of) for name, of in each if isinstance(of, GivenValues)]
        names, settings = (
            [of.called or name for name, of in given],
            [of.settings for _, of in given],
        )
        return values_of(self.program, names[0], names[1], self.device, *settings)

    def to_json(self) -> str:
        """The text of spec.json: every setting spelled out, defaults too."""
        content = {"schema_version": SCHEMA_VERSION, "run_id": self.run_id}
        own = dataclasses.asdict(self)
        for name in ("train", "eval", "data", "corpus") if self.program else ("program",):
            del own[name]  # it means nothing here
        return json.dumps({**content, **own}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        """Of a cell of our own training: a program's is read by bench/border/program.py."""
        content = json.loads(text)
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(
                f"spec.json has schema {content['schema_version']}, "
                f"this code reads {SCHEMA_VERSION}. Use the version of this program that wrote it"
            )
        model, optimizer = content["model"], content["optimizer"]
        of_model = {**MODEL_OPTIONS, OWN: OwnModel}[model["base"]]
        of_optimizer = {**OPTIMIZER_OPTIONS, OWN: OwnOptimizer}[optimizer["base"]]
        return cls(
            model=Model(model["name"], model["base"], of_model(**model["options"])),
            optimizer=Optimizer(
                optimizer["name"], optimizer["base"], of_optimizer(**optimizer["options"])
            ),
            device=content["device"],
            seed=content["seed"],
            train=TrainOptions(**content["train"]),
            eval=EvalOptions(**content["eval"]),
            corpus=CorpusRef.from_content(content["corpus"]),
            data=DataOptions(split=tuple(content["data"]["split"])),
        )


@dataclass(frozen=True)
class CellFiles:
    """The files of one attempt at one cell; both sides find them by these names alone."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "spec.json"

    @property
    def trials(self) -> Path:
        """Of a check alone: number -> options of the optimizer, for each trial of the arm."""
        return self.folder / "trials.json"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def curve(self) -> Path:
        return self.folder / "curve.csv"

    @property
    def steps(self) -> Path:
        return self.folder / "steps.csv"

    def windows(self, split: str) -> Path:
        """Losses of the last evaluation, window by window in the order of the text."""
        return self.folder / f"{split}_windows.csv"

    def of_run(self, name: str, nth: int) -> Path:
        """Such a file of the nth run, from 2, of a process that makes several."""
        stem, _, suffix = name.partition(".")
        return self.folder / f"{stem}-{nth}.{suffix}"

    @property
    def samples(self) -> Path:
        return self.folder / "samples.csv"

    @property
    def env(self) -> Path:
        return self.folder / "env.json"

    @property
    def compiled(self) -> Path:
        """While it runs: what compilers have made, of earlier cells and of this one."""
        return self.folder / "compiled"

    @property
    def keeping(self) -> Path:
        """Where checkpoints are asked for: how often (bench/border/checkpoints.py)."""
        return self.folder / "keeping.json"

    @property
    def checkpoints(self) -> Path:
        """A folder."""
        return self.folder / "checkpoints"

    @property
    def log(self) -> Path:
        return self.folder / "worker.log"


def read_arguments(words: Sequence[str]) -> tuple[CellFiles, list[Path], list[str]]:
    """What a worker was called with: its cell, the files of the corpus, folders with code."""
    folder, *others = words
    files = CellFiles(Path(folder))
    n_files = RunSpec.from_json(files.spec.read_text(encoding="utf-8")).corpus.n_files
    return files, [*map(Path, others[:n_files])], others[n_files:]
