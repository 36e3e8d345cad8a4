"""The image that holds launcher and worker: built on top of a cell's image, from a clone."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from bench.border.identity import PACKAGE
from bench.errors import MissingError
from bench.launch.engine import Engine
from bench.launch.image import ROOT, build_file, further_wheels, hashed, told, wheels
from bench.measure.machine import working_tree
from bench.measure.packed import Packed
from bench.version import __version__

DOCKERFILE, ENTRY = "bench.Dockerfile", "as-owner.sh"
NAME = "bench"


def build_all_in_one(engine: Engine, device: str, cell_image: str) -> list[str]:
    """Build it on a cell's image; its tags: one of what went into it, one of the device, `bench`.

    Raises:
        MissingError: where docker/wheels has what cells need and not what the program needs.
        EngineError: if the build fails.
    """
    own = _own_wheels()
    if wheels() and not own:
        raise MissingError(
            "docker/wheels holds what cells need, and not what the program needs. Where that "
            "folder has wheels, an image is built from them alone. Fill it (make wheels), or empty "
            "it to build from pip's index."
        )
    commit, dirty = working_tree()
    packed = Packed(str(engine.image_id(cell_image)), commit, dirty)
    names = [tag_of(device, cell_image, packed, own), f"{NAME}:{device}", f"{NAME}:latest"]
    arguments = {
        "CELL_IMAGE": cell_image,
        "NO_INDEX": "1" if own else "",
        "PACKED": packed.to_json(),
        "DEVICE": device,
        "VERSION": __version__,
        "COMMIT": f"{commit or 'unknown'}{'-dirty' if dirty else ''}",
    }
    if engine.image_id(names[0]) is None:
        build_file(engine, DOCKERFILE, names[0], arguments)
    for name in names[1:]:
        engine.command("tag", names[0], name)
    return names


def tag_of(device: str, cell_image: str, packed: Packed, own: Sequence[Path]) -> str:
    """bench:<device>-<hash>, by all that goes in."""
    files = [ROOT / name for name in ("pyproject.toml", "constraints.txt", ".dockerignore")]
    files += [ROOT / "docker" / name for name in (DOCKERFILE, ENTRY)]
    files += (path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    content = [
        f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(files)
    ]
    inputs = [device, cell_image, packed.to_json(), __version__, *content]
    return f"{NAME}:{device}-{hashed(*inputs, *told([*own, *further_wheels()]))}"


def _own_wheels() -> list[Path]:
    return sorted((ROOT / "docker" / "wheels" / "bench").glob("*.whl"))
