"""Where and by what an attempt runs."""

from typing import NamedTuple


class Circumstances(NamedTuple):
    """What attempts must share to be attempts at the same thing."""

    code_sha256: str
    env_id: str
    gpu_name: str
    host_id: str

    def on_any_host(self) -> "Circumstances":
        """The same on whichever machine."""
        return self._replace(host_id="")
