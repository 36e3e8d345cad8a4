"""The same matrix twice in processes of its own, which torch.compile leaves its mark on."""

import shutil
from pathlib import Path

from bench.records.rows import Row, read_table
from tests.builders.shared import bench, without


def plain_and_compiled(folder: Path, text: str) -> tuple[dict[str, Row], dict[str, Row]]:
    """Model -> its row, of a matrix that sets step_timing: as it is, and with train.compile."""
    if shutil.which("g++") is None:
        without("torch.compile needs g++")
    found = []
    for name, matrix in (
        ("plain", text),
        ("compiled", text.replace("step_timing", "compile: true, step_timing")),
    ):
        (folder / f"{name}.yaml").write_text(matrix)
        out = folder / name
        ran = bench("run", folder / f"{name}.yaml", "--out", out, "--runtime", "local")
        assert ran.returncode == 0, ran.stdout
        found.append({row["model"]: row for row in read_table(out / "runs.csv")})
    plain, compiled = found
    return plain, compiled
