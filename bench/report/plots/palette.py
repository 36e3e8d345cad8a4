"""A smaller PNG: few colours, of which those that matter stay exact."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

# A picture has some ten colours, and thousands of blends at the edges of letters and lines. Those
# of which there are most pixels are kept: a quarter of the bytes, and to the eye the same.
COLOURS = 128


def reduced(png: bytes, title: str, dpi: int) -> bytes:
    """The same picture in its COLOURS most frequent colours, the others as the nearest of them."""
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.int32)  # (height, width, 3)
    height, width, _ = pixels.shape
    codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    found, where, counts = np.unique(codes.ravel(), return_inverse=True, return_counts=True)
    kept = np.sort(found[np.argsort(-counts, kind="stable")[:COLOURS]])
    indices = _nearest(_channels(found), _channels(kept))[where].reshape(height, width)
    small = Image.fromarray(indices.astype(np.uint8), mode=None)
    small.putpalette(_channels(kept).astype(np.uint8).tobytes())
    told, out = PngImagePlugin.PngInfo(), io.BytesIO()
    told.add_text("Title", title)
    small.save(out, format="PNG", optimize=True, dpi=(dpi, dpi), pnginfo=told)
    return out.getvalue()


def _channels(codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """0xRRGGBB -> (colours, 3)."""
    return np.stack([codes >> 16, (codes >> 8) & 255, codes & 255], axis=1)


def _nearest(colours: NDArray[np.int32], palette: NDArray[np.int32]) -> NDArray[np.intp]:
    """For each colour the index of the nearest of the palette, by Euclidean distance in RGB."""
    best = np.zeros(len(colours), dtype=np.intp)
    least = np.full(len(colours), np.iinfo(np.int32).max, dtype=np.int32)
    for index, colour in enumerate(palette):
        distance = ((colours - colour) ** 2).sum(axis=1, dtype=np.int32)
        nearer = distance < least
        best[nearer], least[nearer] = index, distance[nearer]
    return best
