"""Cells of a matrix in several places side by side: `python -m tests.gpu.places OUT.csv FOLDER...`.

A folder is named by its place: local, podman or image. The first is what the others are held
against. The exit code is 1 where a place lacks a cell or one did not end well, a loss differs in
any digit, memory was told by another way than docs/image.md says of that place, or differs by more
than a tenth.
"""

import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.records.rows import Row, read_table

SOURCES = {"local": "process", "podman": "process", "image": "device_delta"}
MEMORY = "gpu_mem_nvml_peak_mib"
SAME = ("val_loss_final", "train_loss_final", "init_hash")  # to the last digit
SHOWN = (*SAME[:2], "runtime", "gpu_mem_source", MEMORY, "gpu_mem_allocated_peak_mib")
HEAD = ("model", "optimizer", "place", "status", *SHOWN, "step_time_ms_p50", "wall_time_s")
Cells = Mapping[tuple[str, str], Row]


def main(out: str, *folders: str) -> int:
    places = {Path(folder).name: cells(Path(folder)) for folder in folders}
    with open(out, "w", newline="") as file:
        writer = csv.DictWriter(file, HEAD, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for place, rows in places.items():
            for row in rows.values():
                line = {**row, "place": place}
                writer.writerow(line)
                print(*(line[name] for name in HEAD), sep="\t")
    wrong = list(differences(places))
    print(*wrong or ["places: all alike"], sep="\n")
    return int(bool(wrong))


def cells(folder: Path) -> Cells:
    return {(row["model"], row["optimizer"]): row for row in read_table(folder / "runs.csv")}


def differences(places: Mapping[str, Cells]) -> Iterator[str]:
    """What is not as it should be, a line each."""
    first = next(iter(places.values()))
    keys = {key: None for rows in places.values() for key in rows}  # in the order of the first
    if not keys:
        yield "places: there is no cell"
    for place, rows in places.items():
        for key in keys:
            for what in wrong(place, rows.get(key), first.get(key)):
                yield f"{' + '.join(key)} in {place}: {what}"


def wrong(place: str, row: Row | None, expected: Row | None) -> Iterator[str]:
    if row is None or row["status"] != "ok":
        yield f"{row['status']}, {row['reason']}" if row else "no cell"
        return
    if expected is None or expected["status"] != "ok":
        return  # told of the first place
    for column in SAME:
        if row[column] != expected[column]:
            yield f"{column} is {row[column]}, and {expected[column]} in the first place"
    if row["device"] != "cuda":
        return
    if row["gpu_mem_source"] != SOURCES[place]:
        yield f"gpu_mem_source is {row['gpu_mem_source'] or 'empty'}, not {SOURCES[place]}"
    here, there = (float(each[MEMORY] or "nan") for each in (row, expected))
    if not abs(here - there) <= 0.1 * there:  # not so either where one is empty
        yield f"{MEMORY} is {here}, and {there} in the first place"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
