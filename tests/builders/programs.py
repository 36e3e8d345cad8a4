"""Results folders of a training script, with rows as the launching side and the cell write them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.builders.results import Results

BASE, NEW = "slow", "fast"
CODE = "c" * 64
MATRIX = """\
name: tiny
program: {{path: ., command: [python, train.py], metrics: {metrics}}}
claim: {{baseline: {{model: small, optimizer: slow}}, metric: {metric}, margin: {margin}}}
"""


class Programs(Results):
    """A results folder of a program; `shared` is what `settings` says of it."""

    def __init__(self, path: Path, **shared: object) -> None:
        super().__init__(path)
        about = {"name": "nanoGPT", "sha256": "0a1b2c3d4e5f", "command": ["python", "train.py"]}
        self.settings = json.dumps({"program": {**about, **shared}}, sort_keys=True)

    def run(
        self,
        optimizer: str,
        seed: int,
        status="ok",
        attempt=1,
        model="small",
        metrics: Mapping[str, float] | None = None,
        **fields: object,
    ) -> str:
        """An attempt at a cell, planned or not; its run_id."""
        run_id = f"{model}/{optimizer}/cpu#{seed}"
        if all(row["run_id"] != run_id for row in self.plan):
            self.planned(model=model, optimizer=optimizer, seed=seed)
            self.plan[-1]["settings"] = self.settings
        ours = ("corpus", "corpus_sha256", "eval_protocol", "n_params", "flops_per_token")
        unknown = (*ours, "optimizer_flops_per_step", "infer_time_ms_p50", "perplexity", "tokens")
        hashes = ("data_order_hash", "init_hash", "val_loss_final", "train_time_s", "steps")
        row = dict.fromkeys((*unknown, *hashes), "")
        row |= {"threads": 1, "settings": self.settings} if status == "ok" else {"threads": ""}
        row |= {"metrics": json.dumps(metrics)} if metrics else {}
        self.ended(run_id, status, attempt, **(row | {"settings": self.settings} | fields))
        return run_id

    def arm(self, optimizer: str, losses: Sequence[float], first=1, **fields: object) -> None:
        """Runs that ended ok with these final losses."""
        for seed, loss in enumerate(losses, start=first):
            self.run(optimizer, seed, val_loss_final=loss, **fields)

    def declared(self, optimizer: str, name: str, figures: Sequence[float], **fields) -> None:
        """Runs that ended ok with these figures of a metric that the program declares."""
        for seed, figure in enumerate(figures, start=1):
            self.run(optimizer, seed, metrics={name: figure}, **fields)

    def claiming(self, metric: str, margin=0.01) -> Path:
        """Written, with a matrix that claims something of the slow one."""
        declared = json.loads(self.settings)["program"].get("metrics", {})
        metrics = json.dumps({name: {"better": better} for name, better in declared.items()})
        text = MATRIX.format(metric=metric, margin=margin, metrics=metrics)
        (self.write() / "matrix.yaml").write_text(text)
        return self.path


def spread(mean: float, sd: float, n=5) -> list[float]:
    """Figures of exactly this mean and sample standard deviation."""
    steps = [index - (n - 1) / 2 for index in range(n)]
    scale = sd / math.sqrt(sum(step**2 for step in steps) / (n - 1))
    return [mean + scale * step for step in steps]
