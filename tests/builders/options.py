"""Settings that go with others."""

from typing import Any

# What else must be given for a setting to mean something.
NEEDED: dict[str, dict[str, Any]] = {
    "rope_base": {"position": "rope"},
    "top_k": {"gating": "topk"},
    "balance": {"gating": "topk"},
    "aux_coefficient": {"gating": "topk", "balance": "aux"},
    "bias_rate": {"gating": "topk", "balance": "bias"},
    "prune_every": {"prune_to": 3},
    "prune_to": {"prune_every": 50},
    "second_moment_decay": {"second_moment": "rows"},
}
