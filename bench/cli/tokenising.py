"""`tokenise`: a text to token files that a matrix can name."""

from pathlib import Path
from typing import Annotated

import typer
import yaml

from bench.border.options import DataOptions
from bench.cli.common import err, needing_extra, out
from bench.errors import RequestError
from bench.matrix.forms import Data
from bench.records.corpora import BUILT_IN, find_corpus
from bench.records.sidecar import Sidecar
from bench.statistics.text import counted

VOCABULARY = 4_096


def tokenise(
    text: Annotated[
        str,
        typer.Argument(help=f"a UTF-8 file, or a built-in corpus ({', '.join(sorted(BUILT_IN))})"),
    ],
    folder: Annotated[Path, typer.Option("--out", help="where the files go", metavar="DIR")],
    vocab: Annotated[
        int | None,
        typer.Option(
            help="learn a byte-level BPE of so many tokens from the training split; "
            f"{VOCABULARY} where neither is given",
            metavar="N",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="a tokenizer.json in its place, GPT-2's for instance", metavar="FILE"),
    ] = None,
    split: Annotated[
        str,
        typer.Option(help="shares of training, validation and, if wanted, test", metavar="A,B[,C]"),
    ] = "0.9,0.1",
) -> None:
    """Make token files of a text, which a matrix names under data.tokens."""
    if vocab is not None and tokenizer is not None:
        raise RequestError("--vocab learns a tokenizer, and --tokenizer gives one: leave one out.")
    data = _divided(split)
    corpus = find_corpus(text)
    with needing_extra("tokenise", "tokens", "pip install tokenizers"):
        from bench.records.bpe import given, learned
        from bench.records.tokenised_text import splits_of, write_tokens
    encoding = given(tokenizer) if tokenizer else None
    texts = splits_of(corpus, data)
    if encoding is None:
        asked = VOCABULARY if vocab is None else vocab
        encoding = learned(texts["train"], asked)
        if encoding.vocab_size < asked:
            err.print(
                f"note: in the training split nothing else repeats: the vocabulary has "
                f"{encoding.vocab_size:,} tokens, not {asked:,}"
            )
    _tell(folder, write_tokens(folder, corpus, texts, encoding))


def _divided(split: str) -> DataOptions:
    """As a matrix's data.split is read."""
    try:
        shares = [float(share) for share in split.split(",")]
        options = Data.model_validate({"split": shares}).options
    except ValueError:  # pydantic's as well
        shares = []
    if abs(sum(shares) - 1) > 1e-9:
        raise RequestError(
            f"--split {split}: give two or three shares between 0 and 1 that sum to 1, such as "
            "0.9,0.1 or 0.8,0.1,0.1."
        )
    return options


def _tell(folder: Path, written: Sidecar) -> None:
    for part in written.splits.values():
        told = f"{counted(part.tokens, 'token')} of {part.bytes_per_token:.3f} bytes"
        out.print(f"{folder / part.file}: {told}")
    out.print(f"{folder / written.tokenizer.file}: {written.vocab_size:,} tokens")
    files = {split: [str(folder / part.file)] for split, part in written.splits.items()}
    lines = yaml.safe_dump(
        {"data": {"tokens": files}},
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=float("inf"),
    )
    out.print("in a matrix, whose paths start at its own folder:", lines.rstrip(), sep="\n")
