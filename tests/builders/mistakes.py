"""Matrix texts with one mistake each: the text, its line, its place, and what is said of it."""

from tests.builders.matrices import END, SOUND, broken

ONE_MISTAKE = {
    "misspelt key": (
        broken("steps: 100", "step: 100"),
        3,
        "train.step",
        "unknown key. Did you mean 'steps'? Allowed: batch_size, block_size, clip_norm, ",
    ),
    "misspelt section": (
        broken("limits:", "limit:"),
        18,
        "limit",
        "unknown key. Did you mean 'limits'? Allowed: claim, data, ",
    ),
    "misspelt axis": (
        broken("  device: [cpu]", "  device: [cpu]\n  seeds: [1]"),
        9,
        "matrix.seeds",
        "unknown key. Did you mean 'seed'? Allowed: device, model, optimizer, seed.",
    ),
    "misspelt setting of a variant": (
        broken("n_experts: 8", "n_expert: 8"),
        15,
        "models.nanokimi-8.n_expert",
        "unknown key. Did you mean 'n_experts'? Allowed: attention_scale, aux_coefficient, ",
    ),
    "misspelt key of a claim": (
        broken("  margin: 0.01", "  margin: 0.01\n  metrics: perplexity"),
        23,
        "claim.metrics",
        "unknown key. Did you mean 'metric'? Allowed: baseline, margin, metric, target.",
    ),
    "duplicate key": (
        broken("threads: 2}", "threads: 2,\n  steps: 5}"),
        4,
        "train.steps",
        "is set twice, first in line 3",
    ),
    "duplicate section": (SOUND + "name: other\n", END, "name", "is set twice, first in line 1"),
    "unknown model": (
        broken("  model: [nanogpt, nanokimi]", "  model:\n    - nanogpt\n    - nanokimo"),
        8,
        "matrix.model[1]",
        "nothing defines 'nanokimo'. Did you mean 'nanokimi'? Allowed: nanogpt, nanokimi, ",
    ),
    "unknown optimizer": (
        broken("truemuon]", "truemuo]"),
        7,
        "matrix.optimizer[1]",
        "nothing defines 'truemuo'. Did you mean 'truemuon'? Allowed: adamw, muon, "
        "muon-rms, muonclip, sgd, slow, truemuon.",
    ),
    "unknown device": (
        broken("[cpu]", "[gpu]"),
        8,
        "matrix.device[0]",
        "'gpu' is not allowed. Did you mean 'cpu'? Allowed: cpu, cuda.",
    ),
    "unknown model of an exclude": (
        broken("{model: nanogpt, seed: 3}", "{model: nanogtp, seed: 3}"),
        11,
        "exclude[0].model",
        "nothing defines 'nanogtp'. Did you mean 'nanogpt'?",
    ),
    "unknown model of an include": (
        broken("{model: nanokimi-8,", "{model: nanokimi-9,"),
        13,
        "include[0].model",
        "nothing defines 'nanokimi-9'. Did you mean 'nanokimi-8'?",
    ),
    "unknown model of a claim": (
        broken("baseline: {model: nanogpt", "baseline: {model: gpt"),
        20,
        "claim.baseline.model",
        "nothing defines 'gpt'. Did you mean 'nanogpt'?",
    ),
    "number that YAML reads as text": (
        broken("3.0e-4", "3e-4"),
        17,
        "optimizers.slow.lr",
        "'3e-4' is text to YAML, which wants a point and a sign. Write 3.0e-4.",
    ),
    "number without a sign in its exponent": (
        broken("3.0e-4", "3.0e4"),
        17,
        "optimizers.slow.lr",
        "Write 3.0e+4.",
    ),
    "seed that is text": (
        broken("[1, 2, 3]", '[1, "2", 3]'),
        9,
        "matrix.seed[1]",
        "'2' is text, not a whole number. Write it without quotes: 2.",
    ),
    "seed that is a word": (
        broken("[1, 2, 3]", "[1, two, 3]"),
        9,
        "matrix.seed[1]",
        "'two' is not a whole number.",
    ),
    "seed that is true": (
        broken("[1, 2, 3]", "[1, 2, true]"),
        9,
        "matrix.seed[2]",
        "True is not a whole number.",
    ),
    "seed that is yes": (  # text, as in YAML 1.2
        broken("[1, 2, 3]", "[1, 2, yes]"),
        9,
        "matrix.seed[2]",
        "'yes' is not a whole number.",
    ),
    "steps with a fraction": (
        broken("steps: 100", "steps: 100.5"),
        3,
        "train.steps",
        "100.5 is not a whole number.",
    ),
    "empty axis": (
        broken("[cpu]", "[]"),
        8,
        "matrix.device",
        "is empty. Give at least one value.",
    ),
    "value listed twice": (
        broken("[1, 2, 3]", "[1, 2, 3, 2]"),
        9,
        "matrix.seed[3]",
        "2 is listed twice. Remove one.",
    ),
    "exclude that matches nothing": (
        broken("seed: 3}", "seed: 9}"),
        11,
        "exclude[0]",
        "matches no cell of the matrix. Correct or remove it.",
    ),
    "excludes that leave nothing": (
        broken("  - {model: nanogpt, seed: 3}", "  - {device: cpu}")
        .replace("include:\n  - {model: nanokimi-8, optimizer: adamw, device: cpu, seed: 4}\n", "")
        .partition("claim:")[0],
        10,
        "exclude",
        "leaves no cell at all. Remove a rule.",
    ),
    "name that is missing": (broken("name: trial\n", ""), 1, "name", "is required."),
    "axis that is missing": (broken("  device: [cpu]\n", ""), 5, "matrix.device", "is required."),
    "key of an include that is missing": (
        broken(", seed: 4}", "}"),
        13,
        "include[0].seed",
        "is required.",
    ),
    "section that is a word": (
        broken("{every: 10}", "often"),
        4,
        "eval",
        "'often' is not a mapping. Write {key: value}.",
    ),
    "axis that is no list": (
        broken("[cpu]", "cpu"),
        8,
        "matrix.device",
        "'cpu' is not a list. Write [value, value].",
    ),
    "text that is a number": (
        broken("input.txt", "2024"),
        2,
        "data.corpus",
        "2024 is not text. Put it in quotes.",
    ),
    "text that is empty": (
        broken("input.txt", "''"),
        2,
        "data.corpus",
        "is empty. Give at least one value.",
    ),
    "path that could command a terminal": (
        broken("input.txt", '"a\\e[2J"'),
        2,
        "data.corpus",
        "'a\\x1b[2J' holds a control character. Rename it.",
    ),
    "truth value that is a word": (
        broken("steps: 100", "steps: 100, deterministic: yes"),
        3,
        "train.deterministic",
        "'yes' is not true or false. Write one of these two.",
    ),
    "list that is too short": (
        broken("input.txt", "input.txt, split: [0.9]"),
        2,
        "data.split",
        "has too few: 1. Give at least 2.",
    ),
    "list that is too long": (
        broken("input.txt", "input.txt, split: [0.7, 0.1, 0.1, 0.1]"),
        2,
        "data.split",
        "has too many: 4. Give at most 3.",
    ),
    "whole number that is too large to hold": (
        broken("cpus: 2", f"cpus: {2**64}"),
        18,
        "limits.cpus",
        "cannot be read as a whole number of at most 64 bits. Correct it.",
    ),
    "variants that are a list": (
        broken("  slow: {base: adamw, lr: 3.0e-4}", "  - {base: adamw, lr: 3.0e-4}"),
        16,
        "optimizers",
        "is not a mapping. Write {key: value}.",
    ),
    "variant without a base": (
        broken("{base: adamw, lr: 3.0e-4}", "{lr: 3.0e-4}"),
        17,
        "optimizers.slow",
        "needs `base`, the built-in that it varies, or `class`, one of your own.",
    ),
    "variant of an unknown base": (
        broken("{base: adamw, lr", "{base: adam, lr"),
        17,
        "optimizers.slow",
        "base 'adam' is not a built-in. Did you mean 'adamw'? Allowed: adamw, muon, muonclip, "
        "sgd, truemuon.",
    ),
    "variant of another variant": (
        broken("lr: 3.0e-4}", "lr: 3.0e-4}\n  slower: {base: slow, lr: 1.0e-4}"),
        18,
        "optimizers.slower",
        "base 'slow' is not a built-in. Allowed: adamw, muon, muonclip, sgd, truemuon.",
    ),
    "variant with a built-in's name": (
        broken("slow: {", "adamw: {"),
        17,
        "optimizers.adamw",
        "'adamw' is a built-in's own name. Choose another for the variant.",
    ),
    "heads that do not divide the width": (
        broken("n_experts: 8", "n_head: 5"),
        15,
        "models.nanokimi-8",
        "n_embd 64 is not a multiple of n_head 5.",
    ),
    "variant with the name of a built-in's variant": (
        broken("slow: {", "muon-rms: {"),
        17,
        "optimizers.muon-rms",
        "'muon-rms' is a built-in's own name. Choose another for the variant.",
    ),
    "warm-up without an end": (
        broken("steps: 100", "steps: 100, warmup_steps: 100"),
        3,
        "train",
        "warmup_steps 100 leaves nothing of steps 100: give at most 99.",
    ),
    "graphs of steps whose rates change": (
        broken("steps: 100", "steps: 100, graph_steps: 10, warmup_steps: 5"),
        3,
        "train",
        "graph_steps captures learning rates with the step, and the schedule changes them: leave "
        "out graph_steps, or schedule and warmup_steps.",
    ),
    "TF32 on a CPU": (
        broken("steps: 100", "steps: 100, matmul_precision: tf32"),
        3,
        "train.matmul_precision",
        "is for device cuda, and the matrix plans cells on cpu. Leave one out.",
    ),
    "graphs on a CPU": (
        broken("steps: 100", "steps: 100, graph_steps: 10"),
        3,
        "train.graph_steps",
        "is for device cuda, and the matrix plans cells on cpu. Leave one out.",
    ),
    "graphs of steps that differ": (
        "name: graphs\ntrain: {graph_steps: 10}\n"
        "matrix: {model: [nanogpt, sparse], optimizer: [adamw], device: [cuda], seed: [1]}\n"
        "models: {sparse: {base: nanokimi, gating: topk}}\n",
        2,
        "train.graph_steps",
        "captures one step, and those of sparse differ (top-k, pruning). Leave one of them out.",
    ),
    "decay without its schedule": (
        broken("steps: 100", "steps: 100, schedule: cosine, decay_steps: 20"),
        3,
        "train",
        "decay_steps belongs to schedule wsd, and schedule is cosine: leave it out, or give "
        "schedule wsd.",
    ),
    "wsd without its decay": (
        broken("steps: 100", "steps: 100, schedule: wsd, warmup_steps: 10"),
        3,
        "train",
        "schedule wsd needs decay_steps, the length of its decay: for instance 18, a fifth of the "
        "steps after warm-up.",
    ),
    "decay and warm-up longer than the run": (
        broken("steps: 100", "steps: 100, schedule: wsd, warmup_steps: 50, decay_steps: 51"),
        3,
        "train",
        "decay_steps 51 and warmup_steps 50 are more than steps 100: give decay_steps of at most "
        "50.",
    ),
    "minimum of a schedule that has none": (
        broken("steps: 100", "steps: 100, min_lr_share: 0.1"),
        3,
        "train",
        "min_lr_share is where a decay ends, and schedule constant has none: leave it out, or give "
        "schedule cosine or wsd.",
    ),
    "unknown schedule": (
        broken("steps: 100", "steps: 100, schedule: cosin"),
        3,
        "train.schedule",
        "'cosin' is not allowed. Did you mean 'cosine'? Allowed: constant, cosine, wsd.",
    ),
    "more experts chosen than there are": (
        broken("n_experts: 8", "n_experts: 8, gating: topk, top_k: 9"),
        15,
        "models.nanokimi-8",
        "top_k 9 is more than n_experts 8: give at most that.",
    ),
    "section with the name that pydantic gives to keys": (
        broken("name: trial", "name: trial\n'[key]': 1"),
        2,
        "[key]",
        "unknown key. Allowed: claim, data, ",
    ),
    "zero steps": (
        broken("steps: 100", "steps: 0"),
        3,
        "train.steps",
        "0 should be greater than or equal to 1.",
    ),
    "decay of one": (
        broken("lr: 3.0e-4", "beta2: 1.0"),
        17,
        "optimizers.slow.beta2",
        "1.0 should be less than 1.",
    ),
    "negative seed": (
        broken("[1, 2, 3]", "[1, 2, 3, -4]"),
        9,
        "matrix.seed[3]",
        "-4 should be greater than or equal to 0.",
    ),
    "seed beyond 63 bits": (
        broken("[1, 2, 3]", f"[1, 2, 3, {2**63}]"),
        9,
        "matrix.seed[3]",
        "should be less than 9223372036854775808.",
    ),
    "margin of zero": (
        broken("0.01", "0.0"),
        22,
        "claim.margin",
        "0.0 should be greater than 0.",
    ),
    "nan": (
        broken("3.0e-4", ".nan"),
        17,
        "optimizers.slow.lr",
        "nan should be a finite number.",
    ),
    "infinity": (
        broken("timeout_s: 60", "timeout_s: .inf"),
        18,
        "limits.timeout_s",
        "inf should be a finite number.",
    ),
    "number too large for a float": (
        broken("timeout_s: 60", "timeout_s: 1.0e+999"),
        18,
        "limits.timeout_s",
        "inf should be a finite number.",
    ),
    "option that is a choice": (
        broken("every: 10", "protocol: ful"),
        4,
        "eval.protocol",
        "'ful' is not allowed. Did you mean 'full'? Allowed: full, sampled.",
    ),
    "column that cannot be claimed": (
        broken("val_loss_final", "val_los_final"),
        21,
        "claim.metric",
        "'val_los_final' is not allowed. Did you mean 'val_loss_final'? Allowed: perplexity, ",
    ),
    "fewer CPUs than threads": (
        broken("cpus: 2", "cpus: 1"),
        18,
        "limits.cpus",
        "1 is less than train.threads, 2: the threads would take turns. Give at least 2.",
    ),
    "claim about an arm that does not run": (
        broken("optimizer: adamw}\n  metric", "optimizer: slow}\n  metric"),
        20,
        "claim.baseline",
        "no cell of the matrix has this model with this optimizer. Name two that run together.",
    ),
    "cell that an include repeats": (
        broken("model: nanokimi-8, optimizer", "model: nanokimi, optimizer").replace("4}", "1}"),
        5,
        "matrix",
        "nanokimi + adamw on cpu, seed 1 is planned twice. Remove one of them.",
    ),
    "cell that a renamed variant repeats": (
        broken("{base: nanokimi, n_experts: 8}", "{base: nanokimi, n_experts: 4}").replace(
            "4}\nmodels", "1}\nmodels"
        ),
        5,
        "matrix",
        "nanokimi-8 + adamw on cpu, seed 1 is planned twice, as nanokimi + adamw on cpu, seed 1.",
    ),
    "date": (
        broken("input.txt", "2024-01-01"),
        2,
        "data.corpus",
        "!!timestamp is not allowed. Use text, numbers, lists, mappings.",
    ),
    "key that is no text": (broken("corpus: input.txt", "1: x"), 2, "data[2]", "Put it in quotes."),
    "key that calls a list text": (
        broken("corpus: input.txt", "!!str [a]: x"),
        2,
        "data[2]",
        "the key at line 2 is not text. Put it in quotes.",
    ),
    "key that YAML reads as a truth value": (
        broken("input.txt", "input.txt, true: x"),
        2,
        "data[2]",
        "the key at line 2 is not text. Put it in quotes.",
    ),
    "list that is not closed": (
        broken("[1, 2, 3]", "[1, 2, 3"),
        10,
        "",
        "this is not YAML: expected ',' or ']', but got ':'. Check indents and quotes.",
    ),
    "tab for an indent": (
        broken("  optimizer: [", "\toptimizer: ["),
        7,
        "",
        "this is not YAML: found character '\\t' that cannot start any token. Check indents",
    ),
    "alias of nothing": (
        broken("[cpu]", "*devices"),
        8,
        "",
        "this is not YAML: found undefined alias 'devices'.",
    ),
    "second document": (SOUND + "---\nname: other\n", END, "", "found another document."),
    "list of matrices": ("- name: trial\n", 1, "", "must be a mapping with `name` and `matrix`."),
    "no axes": ("name: trial\n", 1, "matrix", "is required."),
}
