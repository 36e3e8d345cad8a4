"""Sentences from parts."""


def sentences(*found: str) -> str:
    """Those that are not empty, as one text."""
    return " ".join(sentence for sentence in found if sentence)
