"""Arms of known losses and claims about them, for the tests of families and looks."""

from bench.matrix.claim_forms import Claim
from bench.merge.asked import Asked
from tests.builders.results import Results

NOISE = [0.0, 0.013, -0.021, 0.008, 0.017, -0.004]  # shared by the arms of a seed
OWN = [0.002, -0.001, 0.0, 0.001, -0.002, 0.0005]


def claimed(metric="val_loss_final", margin=0.01, model="gpt", optimizer="adamw") -> Asked:
    baseline = {"model": model, "optimizer": optimizer}
    return Asked(Claim.model_validate({"baseline": baseline, "metric": metric, "margin": margin}))


def arm(folder: Results, model="gpt", optimizer="adamw", losses=(), first=1, **fields) -> None:
    for seed, loss in enumerate(losses, start=first):
        run_id = folder.planned(model=model, optimizer=optimizer, seed=seed)
        folder.ended(run_id, val_loss_final=loss, **fields)


def losses(mean: float, own=0.0, n=5) -> list[float]:
    """`own`: how much of its noise an arm has for itself."""
    return [mean + NOISE[i] + own * OWN[i] for i in range(n)]
