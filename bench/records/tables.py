"""The columns of plan.csv and curves.csv, and what each means."""

from bench.records.columns import RUN_COLUMNS


def _same(*names: str) -> dict[str, str]:
    return {name: RUN_COLUMNS[name] for name in names}


PLAN_COLUMNS = {
    **_same("run_id", "arm_id", "name", "model", "optimizer", "device", "seed", "order_in_seed"),
    **_same("part", "tuned_optimizer"),
    "trial": RUN_COLUMNS["trial"] + "; empty where the trials have not told yet",
    **_same("study", "settings"),
    "selected": "whether --only and --shard chose it, in any run so far; coverage counts these",
}

CURVE_COLUMNS = {
    **_same("run_id", "host_id", "attempt"),
    "step": "training steps done at this evaluation",
    "tokens": "training tokens seen",
    "train_time_s": "training time so far",
    "train_loss": "loss on the training split",
    "val_loss": "loss on the validation split",
    "expert_load_max": "tokens that chose the busiest expert of any block, over an equal share (1: "
    "all alike), on the validation windows; weights, where all experts are visited; empty without "
    "experts",
    "router_entropy": "nats: of a token's scores as shares, the mean over tokens and blocks of the "
    "same windows; empty without experts",
    "n_params": "parameters at this evaluation; pruning lowers it",
    "n_params_active": "parameters that one token uses at this evaluation",
    "optimizer_state_mib": "all tensors that the optimizer holds at this evaluation",
}
