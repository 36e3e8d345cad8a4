"""Sentences from parts."""


def counted(number: int, what: str) -> str:
    """1 seed, 2 seeds."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def sentences(*found: str) -> str:
    """Those that are not empty, as one text."""
    return " ".join(sentence for sentence in found if sentence)
