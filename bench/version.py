"""The version of this program. No worker imports it: a release alone is no other code."""

__version__ = "0.1.0"
