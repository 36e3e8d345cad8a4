"""experts: how evenly the routers of mixtures spread their tokens, while training."""

from bench.merge.curves import band_over_steps, seed_lines, steps
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.strips import Strip, draw_strips

NAME = "experts"

CAPTION = (
    "How the routers of mixtures spread tokens over experts, on the validation windows; means over "
    "seeds. Busiest expert: its load over an equal share, the highest of any block; 1 is perfect "
    "balance. Load is the tokens that chose an expert, or its weights where all are visited. "
    "Router entropy: of a token's scores, mean over tokens and blocks; 0 is one expert alone, "
    "ln(experts) all alike. Neither axis starts at 0."
)

FIGURES = (
    ("expert_load_max", "busiest expert\n(equal share = 1)"),
    ("router_entropy", "router entropy\n(nats)"),
)


def experts(scene: Scene) -> Drawing | None:
    """None where no arm has experts, or its curves are of a version that did not watch them."""
    found = [_strip(scene, figure, label) for figure, label in FIGURES]
    strips = [strip for strip in found if strip.lines]
    if not strips:
        return None
    labels = dict.fromkeys(label for strip in strips for label in strip.lines)
    return scene.drawing(
        NAME,
        CAPTION,
        f"Line charts of the load of the busiest expert and of the routers' entropy against "
        f"training steps: {', '.join(labels)}.",
        draw_strips(scene, strips, "training steps", integer=True),
    )


def _strip(scene: Scene, figure: str, label: str) -> Strip:
    bands = {
        arm.label: band_over_steps(list(seed_lines(arm, steps, figure).values()))
        for arm in scene.arms
    }
    return Strip(label, {name: (band.x, band.mean) for name, band in bands.items() if band})
