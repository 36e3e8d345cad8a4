"""What tells the sections of a report apart, in words."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.border.options import DataOptions, EvalOptions, TrainOptions
from bench.merge.alike import Key
from bench.merge.sections import Section
from bench.records.programs import setup_of
from bench.statistics.text import counted

# Settings that a title has words for, whatever the others are.
IN_WORDS = ("steps", "protocol", "threads")


def short(identity: str) -> str:
    """The first digits of a hash, without the prefix that says what kind it is."""
    return identity.rpartition(":")[2][:8]


def titles(sections: Sequence[Section]) -> list[str]:
    """What tells each section apart from the others, in words; hashes only where words fail."""
    found = []
    for section in sections:
        runtimes = [f"{name} runtime" for name in section.values("runtime")]
        device = section.key.device or "unknown device"
        found.append(", ".join([_hardware(section), device, *runtimes]))
    words = [
        [*_distinctions(section), told]
        for section, told in zip(sections, _settings_apart(sections), strict=True)
    ]
    for distinctions in zip(*words, strict=True):
        alike = Counter(found)
        apart = len(set(zip(found, distinctions, strict=True))) > len(alike)
        if apart:
            found = [f"{title}, {word}" for title, word in zip(found, distinctions, strict=True)]
    return found


def settings(key: Key) -> dict[str, Any]:
    """Every setting of training, evaluation and data by name; none where they are not known.

    Of a program what its runs have in common.
    """
    if not key.settings:
        return {}
    if program := setup_of(key.settings).program:
        return {**program, "command": " ".join(program.get("command", []))}
    defaults = {
        "train": dataclasses.asdict(TrainOptions()),
        "eval": dataclasses.asdict(EvalOptions()),
        "data": dataclasses.asdict(DataOptions()),
    }
    changed = json.loads(key.settings)
    return {
        name: changed.get(part, {}).get(name, default)
        for part, of_part in defaults.items()
        for name, default in of_part.items()
    }


def _settings_apart(sections: Sequence[Section]) -> list[str]:
    """Of each section the settings in which any two differ, but for those that have words."""
    found = [settings(section.key) for section in sections]
    names = dict.fromkeys(name for one in found for name in one if name not in IN_WORDS)
    differ = [name for name in names if len({str(one.get(name)) for one in found}) > 1]
    return [
        ", ".join(f"{name} {one[name]}" for name in differ if name in one) or "unknown settings"
        for one in found
    ]


def _hardware(section: Section) -> str:
    names = [section.key.gpu_name] if section.key.gpu_name else section.values("host_cpu_model")
    told = ", ".join(names)
    if len(section.timing.hosts) > 1:
        return f"{machine_words(section)} ({told})" if told else machine_words(section)
    return told or machine_words(section)


def machine_words(section: Section) -> str:
    """The one machine that it is of, by its name, or how many."""
    hosts = section.timing.hosts
    if len(hosts) > 1:
        return counted(len(hosts), "machine")
    return f"machine {short(hosts[0])}" if hosts and hosts[0] else "unknown machine"


def _learned(section: Section) -> str:
    """What trains on what, in a word."""
    if section.setup.program:
        return f"program {section.setup.program.get('name', 'unknown')}"
    return "corpus " + (" ".join(section.values("corpus")) or "unknown")


def _distinctions(section: Section) -> list[str]:
    key, asked = section.key, section.setup.program
    steps = asked.get("steps") if asked else key.steps
    threads = asked.get("threads", 1) if asked else key.threads
    return [
        _learned(section),
        "torch " + (" ".join(section.values("torch_version")) or "unknown"),
        "unknown steps" if steps is None else f"{steps:,.0f} steps",
        "unknown tokens a step"
        if key.tokens_per_step is None
        else f"{key.tokens_per_step:,.0f} tokens a step",
        f"{key.eval_protocol or 'unknown'} evaluation",
        "unknown threads" if threads is None else counted(round(threads), "thread"),
        machine_words(section),
        f"environment {short(key.env_id)}",
        f"code {short(key.code_sha256)}",
        f"text {short(key.corpus_sha256)}",
    ]
