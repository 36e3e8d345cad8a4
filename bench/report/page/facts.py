"""What a section ran on, and whether its arms were given the same: terms and texts."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from bench.merge.merging import EndedCell
from bench.merge.sections import Section
from bench.merge.source import Source
from bench.report.titles import short
from bench.report.words import times_words
from bench.statistics.text import NOT_AVAILABLE, of_count, of_measure, span, write

DIGITS = 12  # of a hash, where it is to be looked up

BY_SEED = (
    "by the number of the seed; not known whether configurations of a seed saw the same batches, "
    "or began with the same weights: that is the program's own doing"
)
REPLICATES = "none: the program seeds itself, and its runs are replicates"


def facts(section: Section, sources: Sequence[Source]) -> list[tuple[str, str]]:
    """In the order of a methods section; unknown is n/a."""
    key = section.key
    if section.is_imported:
        about = ("Machine", "not known, nor are software and code")
        return [about, *_program(section), ("Rows", _rows(section, sources))]
    found = [_machines(section)]
    if key.device == "cuda":
        driver = f"driver {_told(section, 'driver_version')}"
        found.append(("GPU", f"{_told(section, 'gpu_name')}, {driver}"))
    found += [
        ("Device", key.device or NOT_AVAILABLE),
        ("Runtime", f"{_told(section, 'runtime')} (environment {short(key.env_id)})"),
        ("Software", _software(section)),
        ("Code", _code(section)),
        *(_program(section) if section.setup.program else _training_of_ours(section)),
        ("Rows", _rows(section, sources)),
    ]
    return found


def _machines(section: Section) -> tuple[str, str]:
    """The one that it is of; of several, how many of which processor, and what is pooled."""
    hosts = section.timing.hosts
    if len(hosts) == 1:
        return (
            "Machine",
            f"{_told(section, 'host_cpu_model')} (host {short(hosts[0]) or NOT_AVAILABLE})",
        )
    models: dict[str, list[str]] = defaultdict(list)
    for host, here in section.machines.items():
        models[_told(here, "host_cpu_model")].append(short(host) or NOT_AVAILABLE)
    told = "; ".join(f"{model} (hosts {', '.join(names)})" for model, names in models.items())
    return "Machines", f"{len(hosts)}: {told}"


def _training_of_ours(section: Section) -> list[tuple[str, str]]:
    key = section.key
    return [
        ("Corpus", f"{_told(section, 'corpus')} (SHA-256 {key.corpus_sha256[:DIGITS]}…)"),
        ("Training", _training(section)),
        ("Settings", _settings(section)),
        ("Evaluation", f"protocol {key.eval_protocol or NOT_AVAILABLE}"),
        ("Pairing", pairing(section.ok)),
    ]


def _program(section: Section) -> list[tuple[str, str]]:
    """What is known of a program: how it was called, and not what it does with a seed."""
    program, setup = section.setup.program, section.setup
    name, sha256 = program.get("name", NOT_AVAILABLE), program.get("sha256")
    called = ("Program", f"{name} (SHA-256 {sha256[:DIGITS]}…)") if sha256 else ("Read from", name)
    asked = {key: program[key] for key in ("steps", "threads", "gpus") if key in program}
    done = {key: section.values(key) for key in ("steps", "tokens")}
    seen = [f"{key} {span(map(int, texts))}" for key, texts in done.items() if texts]
    prints = "as they were imported" if section.is_imported else "as the program prints them"
    known = [
        ("Command", " ".join(program.get("command", []))),
        ("Asked", ", ".join(f"{key} {value}" for key, value in asked.items())),
        ("Done", ", ".join(seen)),
    ]
    return [
        called,
        *((what, told) for what, told in known if told),
        ("Losses", f"{prints}, in its own unit and on its own data"),
        ("Times", times_words(section)),
        ("Pairing", BY_SEED if setup.is_paired else REPLICATES),
    ]


def _told(section: Section, column: str) -> str:
    return ", ".join(section.values(column)) or NOT_AVAILABLE


def _software(section: Section) -> str:
    parts = [
        f"Python {_told(section, 'python_version')}",
        f"torch {_told(section, 'torch_version')}",
    ]
    if section.key.device == "cuda":
        parts.append(f"CUDA {_told(section, 'cuda_version')}")
    return ", ".join(parts)


def _code(section: Section) -> str:
    commits = ", ".join(commit[:DIGITS] for commit in section.values("git_commit"))
    worker = section.key.code_sha256[:DIGITS] or NOT_AVAILABLE
    text = f"worker {worker}, commit {commits or NOT_AVAILABLE}"
    dirty = "true" in section.values("git_dirty")
    return text + (", with changes that were not committed" if dirty else "")


def _training(section: Section) -> str:
    key = section.key
    threads = "1 thread" if key.threads == 1 else f"{write(key.threads, of_count)} threads"
    each = write(key.tokens_per_step, of_count)
    seen = [write(float(text), of_measure) for text in section.values("epochs")[:1]]
    epochs = "".join(f" ({text} epochs)" for text in seen)
    return f"{write(key.steps, of_count)} steps of {each} tokens{epochs}, {threads} per operator"


def _settings(section: Section) -> str:
    """What differs from the defaults, as the matrix has it."""
    if not section.key.settings:
        return "not known: the folder is older, and has no matrix.yaml that can be read"
    changed = json.loads(section.key.settings)
    told = (
        f"{part}: {', '.join(f'{name} {_plain(value)}' for name, value in values.items())}"
        for part, values in changed.items()
    )
    return "; ".join(told) or "the defaults"


def _plain(value: Any) -> str:
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows(section: Section, sources: Sequence[Source]) -> str:
    names = list(dict.fromkeys(sources[cell.source].name for cell in section.ok))
    started = sorted(section.values("started_at"))
    when = f", started {_minute(started[0])} to {_minute(started[-1])} UTC" if started else ""
    return f"from {', '.join(names)}{when}"


def _minute(stamp: str) -> str:
    """2026-11-22T08:46:22.462+00:00 -> 2026-11-22 08:46"""
    return stamp[:16].replace("T", " ")


def pairing(cells: Sequence[EndedCell]) -> str:
    """Whether arms of one seed saw the same batches, and optimizers of one model began alike."""
    batches, weights = defaultdict(set), defaultdict(set)
    for cell in cells:
        batches[f"seed {cell.seed}"].add(cell.text("data_order_hash"))
        weights[f"{cell.model}, seed {cell.seed}"].add(cell.text("init_hash"))
    return "; ".join(
        [
            _agreement(
                batches, "all configurations of a seed saw the same batches in the same order"
            ),
            _agreement(weights, "all optimizers of a model and seed began with the same weights"),
            *_one_draw(cells),
        ]
    )


def _one_draw(cells: Sequence[EndedCell]) -> list[str]:
    """Models whose weights no seed varies: each was built from one draw, or from none."""
    drawn: dict[str, set[str]] = defaultdict(set)
    seeds: dict[str, set[int]] = defaultdict(set)
    for cell in cells:
        drawn[cell.model].add(cell.text("init_hash"))
        seeds[cell.model].add(cell.seed)
    alike = [
        model
        for model, hashes in drawn.items()
        if len(seeds[model]) > 1 and len(hashes) == 1 and "" not in hashes
    ]
    if not alike:
        return []
    return [f"data order alone varies from seed to seed: {', '.join(alike)} began with one draw"]


def _agreement(hashes: dict[str, set[str]], claim: str) -> str:
    if any("" in found for found in hashes.values()):
        return f"not known whether {claim} (n/a in some rows)"
    apart = [what for what, found in hashes.items() if len(found) > 1]
    return f"NOT true that {claim}: {', '.join(apart)} differ" if apart else claim
