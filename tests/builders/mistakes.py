"""Matrix texts with one mistake each: the text, its line, its place, and what is said of it."""

from tests.builders.matrices import END, SOUND, broken

AGAINST = "baseline: {model: nanogpt, optimizer: adamw}\n  metric: val_loss_final\n  margin: 0.01"
FIXED = "arm: {model: nanogpt, optimizer: adamw}\n"
ONE_MISTAKE = {
    "misspelt key": (
        broken("steps: 100", "step: 100"),
        3,
        "train.step",
        "unknown key. Did you mean 'steps'? Allowed: accumulate, batch_size, block_size, ",
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
        "unknown key. Did you mean 'n_experts'? Allowed: activation, attention_scale, ",
    ),
    "misspelt key of a claim": (
        broken("  margin: 0.01", "  margin: 0.01\n  metrics: perplexity"),
        23,
        "claim.metrics",
        "unknown key. Did you mean 'metric'? Allowed: also, baseline, budget, margin, metric, ",
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
        broken("3.0e-4", "3_0.0e-5"),
        17,
        "optimizers.slow.lr",
        "'3_0.0e-5' is text, not a number. Write 30.0e-5.",
    ),
    "number in quotes": (
        broken("3.0e-4", "'3e-4'"),
        17,
        "optimizers.slow.lr",
        "'3e-4' is text, not a number. Write it without quotes: 3e-4.",
    ),
    "decimal comma": (
        broken("{base: adamw, lr: 3.0e-4}", "\n    base: adamw\n    lr: 0,001"),
        19,
        "optimizers.slow.lr",
        "'0,001' is text, not a number. Write 0.001.",
    ),
    "comma that may be of thousands": (
        broken("{timeout_s: 60, cpus: 2}", "\n  timeout_s: 3,600"),
        19,
        "limits.timeout_s",
        "'3,600' is text, not a number. Write 3600 or 3.600.",
    ),
    "minutes and seconds": (
        broken("timeout_s: 60", "timeout_s: 1:30"),
        18,
        "limits.timeout_s",
        "'1:30' is text, not a number. Write 90.",
    ),
    "whole number with an underscore": (
        broken("steps: 100", "steps: 1_000"),
        3,
        "train.steps",
        "'1_000' is text, not a whole number. Write 1000.",
    ),
    "whole number with an exponent": (
        broken("steps: 100", "steps: 1e3"),
        3,
        "train.steps",
        "1000.0 is not a whole number. Write 1000.",
    ),
    "whole number in base 16 with an underscore": (
        broken("steps: 100", "steps: 0x1_0"),
        3,
        "train.steps",
        "'0x1_0' is text, not a whole number. Write 0x10.",
    ),
    "whole number in base 2": (
        broken("steps: 100", "steps: 0b101"),
        3,
        "train.steps",
        "'0b101' is text, not a whole number. Write 5.",
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
    "name that is a list": (
        broken("name: trial", "name: [trial]"),
        1,
        "name",
        "['trial'] is a list, not text. Write a name.",
    ),
    "path that is a list": (
        broken("input.txt", "[input.txt]"),
        2,
        "data.corpus",
        "['input.txt'] is a list, not text. Write a path.",
    ),
    "pattern of token files that is no list": (
        broken("{corpus: input.txt}", "{tokens: {train: a.bin, val: [b.bin]}, vocab_size: 65}"),
        2,
        "data.tokens.train",
        "'a.bin' is not a list. Write [value, value].",
    ),
    "token file that is a list": (
        broken("{corpus: input.txt}", "{tokens: {train: [[a]], val: [b.bin]}, vocab_size: 65}"),
        2,
        "data.tokens.train[0]",
        "['a'] is a list, not text. Write a path.",
    ),
    "token file that could command a terminal": (
        broken("{corpus: input.txt}", '{tokens: {train: ["\\e[2J"], val: [b]}, vocab_size: 65}'),
        2,
        "data.tokens.train[0]",
        "'\\x1b[2J' holds a control character. Rename it.",
    ),
    "token files without a split": (
        broken("{corpus: input.txt}", "{tokens: {train: [a.bin]}, vocab_size: 65}"),
        2,
        "data.tokens.val",
        "is required.",
    ),
    "token files and a text": (
        broken("input.txt", "input.txt, tokens: {train: [a], val: [b]}, vocab_size: 65"),
        2,
        "data.corpus",
        "does not go with tokens, which are the data. Leave one out.",
    ),
    "token files that are divided": (
        broken("corpus: input.txt", "split: [0.5, 0.5], tokens: {train: [a], val: [b]}"),
        2,
        "data.split",
        "does not go with tokens, whose files are of a split each. Leave it out.",
    ),
    "a vocabulary of a text": (
        broken("input.txt", "input.txt, vocab_size: 65"),
        2,
        "data.vocab_size",
        "belongs to tokens: a text has the characters that it has. Leave it out.",
    ),
    "a vocabulary beyond uint16": (
        broken("corpus: input.txt", "tokens: {train: [a], val: [b]}, vocab_size: 65537"),
        2,
        "data.vocab_size",
        "65537 should be less than or equal to 65536.",
    ),
    "a claim about characters of token files": (
        broken("metric: val_loss_final", "metric: bits_per_char").replace(
            "corpus: input.txt", "tokens: {train: [a], val: [b]}, vocab_size: 65"
        ),
        21,
        "claim.metric",
        "bits_per_char is of a text's characters, which tokens are not. Claim val_loss_final.",
    ),
    "a claim about a test split that token files lack": (
        broken("metric: val_loss_final", "metric: test_loss_final").replace(
            "corpus: input.txt", "tokens: {train: [a], val: [b]}, vocab_size: 65"
        ),
        21,
        "claim.metric",
        "test_loss_final needs a test split. Name its files by data.tokens.test.",
    ),
    "name that is a mapping": (
        broken("[nanogpt, nanokimi]", "[nanogpt, {base: nanokimi}]"),
        6,
        "matrix.model[1]",
        "{'base': 'nanokimi'} is a mapping, not text. Write a name.",
    ),
    "list of two at least that is empty": (
        broken("input.txt", "input.txt, split: []"),
        2,
        "data.split",
        "is empty. Give at least 2 values.",
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
    "whole number that is too large, where one is required": (
        broken("steps: 100", f"steps: {2**64}"),
        3,
        "train.steps",
        "cannot be read as a whole number of at most 64 bits. Correct it.",
    ),
    "number that is None": (
        broken("cpus: 2", "cpus: None"),
        18,
        "limits.cpus",
        "'None' is not a whole number. Write one in digits, or leave cpus out.",
    ),
    "steps as a share": (
        broken("steps: 100", "steps: 100, warmup_steps: 10%"),
        3,
        "train.warmup_steps",
        "'10%' is a share, not a whole number. Write how many, in digits.",
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
    "a graph of more steps than the run has left": (
        broken("steps: 100", "steps: 100, graph_steps: 98"),
        3,
        "train",
        "graph_steps 98 would never be launched: the first 3 of steps 100 are done kernel by "
        "kernel, so give at most 97, or leave it out.",
    ),
    "a graph of more steps than lie between evaluations": (
        "name: graphs\ntrain: {graph_steps: 100}\neval: {every: 50}\n"
        "matrix: {model: [nanogpt], optimizer: [adamw], device: [cuda], seed: [1]}\n",
        2,
        "train.graph_steps",
        "launches 100 steps at once, and an evaluation comes every 50 (eval.every). Give at most "
        "that, or evaluate less often.",
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
    "compiled steps that differ": (
        "name: compiled\ntrain: {compile: true}\n"
        "matrix: {model: [nanogpt, pruned], optimizer: [adamw], device: [cpu], seed: [1]}\n"
        "models: {pruned: {base: nanokimi, prune_every: 10, prune_to: 2}}\n",
        2,
        "train.compile",
        "compiles one step, and those of pruned differ (top-k, pruning). Leave one of them out.",
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
        "'val_los_final' is not allowed. Did you mean 'val_loss_final'? Allowed: bits_per_byte, ",
    ),
    "margin of a ratio that is no share": (
        broken("metric: val_loss_final\n  margin: 0.01", "metric: train_time_s\n  margin: 5"),
        22,
        "claim.margin",
        "5 is no share, and train_time_s is compared by its ratio. Write less than 1: 0.05 is 5 %.",
    ),
    "claim of the last evaluations that says not how many": (
        broken("metric: val_loss_final", "metric: val_loss_tail"),
        21,
        "claim.metric",
        "val_loss_tail needs tail. Write it beside the metric.",
    ),
    "claim of more evaluations than there are": (
        broken("metric: val_loss_final", "metric: val_loss_tail\n  tail: 11"),
        22,
        "claim.tail",
        "is 11, and a run has 10 evaluations after its first step. Write less, or lower ",
    ),
    "claim of a cost that says no target": (
        broken("metric: val_loss_final", "metric: time_to"),
        21,
        "claim.metric",
        "time_to needs target. Write it beside the metric.",
    ),
    "budget of a claim at equal steps": (
        broken("metric: val_loss_final", "metric: val_loss_final\n  budget: 100"),
        22,
        "claim.budget",
        "belongs to val_loss_at_equal_time, val_loss_at_equal_tokens, val_loss_at_equal_flops ",
    ),
    "misspelt key of a further claim": (
        broken(
            "margin: 0.01",
            "margin: 0.01\n  also:\n  - {metric: perplexity, margin: 1.0, margins: 1.0}",
        ),
        24,
        "claim.also[0].margins",
        "unknown key. Did you mean 'margin'? Allowed: budget, margin, metric, tail, target.",
    ),
    "further claim of the same": (
        broken("margin: 0.01", "margin: 0.01\n  also:\n  - {metric: val_loss_final, margin: 1.0}"),
        24,
        "claim.also[0].metric",
        "val_loss_final is claimed twice. Remove one.",
    ),
    "fixed claim of a figure of which more is better": (
        broken(AGAINST, f"{FIXED}  metric: tokens_per_s\n  at_most: 3.28"),
        21,
        "claim.metric",
        "tokens_per_s cannot be at most so much. Claim a loss, such as val_loss_final.",
    ),
    "fixed claim with a margin": (
        broken(AGAINST, f"{FIXED}  metric: val_loss_final\n  at_most: 3.28\n  margin: 0.1"),
        23,
        "claim.margin",
        "unknown key. Allowed: arm, at_most, metric, sd.",
    ),
    "fixed claim about an arm that does not run": (
        broken(
            AGAINST,
            "arm: {model: nanogpt, optimizer: slow}\n  metric: val_loss_final\n  at_most: 3",
        ),
        20,
        "claim.arm",
        "no cell of the matrix has this model with this optimizer. Name two that run together.",
    ),
    "claim on a GPU that no cell has": (
        broken("val_loss_final", "gpu_energy_j"),
        21,
        "claim.metric",
        "gpu_energy_j is of a GPU, and no cell is on device cuda. Claim another column, or plan ",
    ),
    "claim on the share of a GPU's peak, and no cell has one": (
        broken("val_loss_final", "mfu_pct"),
        21,
        "claim.metric",
        "mfu_pct is of a GPU, and no cell is on device cuda. Claim another column, or plan ",
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
    "name that is a number": (
        broken("name: trial", "name: 20240501"),
        1,
        "name",
        "20240501 is not text. Put it in quotes.",
    ),
    "key that is no text": (
        broken("corpus: input.txt", "1: x"),
        2,
        "data.1",
        "the key 1 is a number, not text. Put it in quotes.",
    ),
    "key that calls a list text": (
        broken("corpus: input.txt", "!!str [a]: x"),
        2,
        "data",
        "the key at line 2 is not text. Write a word.",
    ),
    "key that YAML reads as a truth value": (
        broken("input.txt", "input.txt, true: x"),
        2,
        "data.true",
        "the key true is true or false, not text. Put it in quotes.",
    ),
    "key that YAML reads as nothing": (
        broken("input.txt", "input.txt, ~: x"),
        2,
        "data.~",
        "the key ~ is nothing, not text. Put it in quotes.",
    ),
    "comma within a value": (
        broken("lr: 3.0e-4", "lr: 1,5"),
        17,
        "optimizers.slow.5",
        "'5' has no value: in {...} a comma ends the one before. Write a list as [0.9, 0.95], a "
        "fraction with a point, text with a comma in quotes.",
    ),
    "colon without a space": (
        broken("{base: adamw, lr: 3.0e-4}", "{base: adamw, lr:3.0e-4}"),
        17,
        "optimizers.slow.lr:3.0e-4",
        "'lr:3.0e-4' is one word. Write a space after the colon: lr: 3.0e-4.",
    ),
    "equals sign for a colon": (
        broken("{base: adamw, lr: 3.0e-4}", "{base: adamw, lr=3.0e-4}"),
        17,
        "optimizers.slow.lr=3.0e-4",
        "'lr=3.0e-4' is one word. Write a space after the colon: lr: 3.0e-4.",
    ),
    "merge key in quotes": (
        broken("{base: adamw, lr: 3.0e-4}", "{'<<': {base: adamw}, lr: 3.0e-4}"),
        17,
        "optimizers.slow.<<",
        "merges only where it has no quotes. Remove them.",
    ),
    "merge key twice": (
        broken("{base: adamw, lr: 3.0e-4}", "{<<: {base: adamw}, <<: {lr: 3.0e-4}}"),
        17,
        "optimizers.slow.<<",
        "is set twice, first in line 17. Write <<: [*one, *other].",
    ),
    "merge key with a number": (
        broken("{every: 10}", "{every: 10, <<: 1}"),
        4,
        "eval.<<",
        "merges mappings alone. Write <<: *name, with &name before a mapping.",
    ),
    "mistake in what is merged": (
        broken("slow: {base: adamw, lr: 3.0e-4}", "slow: {base: adamw,\n   <<: {lr: 1_0}}"),
        18,
        "optimizers.slow.lr",
        "'1_0' is text, not a number. Write 10.",
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
    "second document": (
        SOUND + "---\nname: other\n",
        END,
        "",
        "`---` begins another document, and a matrix is one. Make it a file of its own.",
    ),
    "list of matrices": ("- name: trial\n", 1, "", "must be a mapping with `name` and `matrix`."),
    "no axes": ("name: trial\n", 1, "matrix", "is required."),
}
