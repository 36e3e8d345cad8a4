"""A clock for tests of what takes its time."""


class FakeTime:
    """CLOCK_MONOTONIC that moves only when it is told to."""

    def __init__(self) -> None:
        self.ns = 1_000 * 10**9

    def pass_s(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)

    def monotonic(self) -> float:
        return self.ns / 1e9

    def monotonic_ns(self) -> int:
        return self.ns
