"""A benchmark harness whose conclusions hold: matrix in, one true row per cell out."""

__version__ = "0.1.0"
