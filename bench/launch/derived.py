"""Images with a matrix's requirements: the cells' own and, on top, what pip adds to them."""

import hashlib
from collections.abc import Sequence

from bench.errors import MissingError
from bench.launch import image
from bench.launch.engine import Engine
from bench.records.requirements import normalised, pinned


def derived_tag(cell_image: str, requirements: Sequence[str]) -> str:
    """bench-<device>-own:<hash>, by the tag of the image below and all that comes on top."""
    inputs = [
        image.dockerfile("own").read_text(encoding="utf-8"),
        cell_image,
        *sorted(f"{name}=={version}" for name, version in pinned(requirements).items()),
        *(f"{wheel.name} {wheel.stat().st_size}" for wheel in image.further_wheels()),
    ]
    digest = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
    return f"{cell_image.partition(':')[0]}-own:{digest[:12]}"


def find_derived(
    engine: Engine, device: str, requirements: Sequence[str]
) -> tuple[str, str] | None:
    """(tag, image id) of a device's image with these requirements, if it is there."""
    found = image.find_image(engine, device)
    if found is None or not requirements:
        return found
    tag = derived_tag(found[0], requirements)
    image_id = engine.image_id(tag)
    return (tag, image_id) if image_id is not None else None


def require_derived(engine: Engine, device: str, requirements: Sequence[str]) -> str:
    """The id of a device's image with these requirements.

    Raises:
        MissingError: naming the command that builds it.
    """
    if not requirements:
        return image.require_image(engine, device)
    found = find_derived(engine, device, requirements)
    if found is None:
        raise MissingError(
            f"the image for {device} cells with {', '.join(requirements)} is not built. Build it "
            f"with: make image-{device} MATRIX=FILE   (or run without containers: RUNTIME=local)"
        )
    return found[1]


def build_derived(engine: Engine, cell_image: str, requirements: Sequence[str]) -> str:
    """Build it on top of a cell's image; its tag.

    From docker/wheels alone where that holds every requirement, else from pip's index.

    Raises:
        EngineError: if the build fails.
    """
    tag = derived_tag(cell_image, requirements)
    arguments = {
        "CELL_IMAGE": cell_image,
        "REQUIREMENTS": " ".join(requirements),
        "NO_INDEX": "1" if all(map(_is_held, requirements)) else "",
    }
    image.build_file(engine, image.dockerfile("own"), tag, arguments)
    return tag


def _is_held(requirement: str) -> bool:
    """Whether docker/wheels has a wheel of it: NAME-VERSION-..., NAME with underscores."""
    name, _, version = requirement.partition("==")
    wanted = (normalised(name), version)
    parts = (wheel.name.split("-")[:2] for wheel in image.further_wheels())
    return any((normalised(found), of) == wanted for found, of in parts)
