"""The kind of a processor, from what Linux tells of it."""

from pathlib import Path

import pytest

from bench.measure import machine

X86 = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: A processor
flags		: fpu sse2 avx avx2 fma avx512f avx512bw avx512vl avx512dq amx_tile hypervisor

processor	: 1
vendor_id	: GenuineIntel
"""
ARM = """\
processor	: 0
BogoMIPS	: 50.00
Features	: fp asimd evtstrm aes asimdhp sve bf16
CPU implementer	: 0x41
CPU part	: 0xd40
"""


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (X86, "GenuineIntel avx avx2 fma avx512f avx512bw avx512dq avx512vl amx_tile"),
        (
            X86.replace("avx512f ", ""),
            "GenuineIntel avx avx2 fma avx512bw avx512dq avx512vl amx_tile",
        ),
        (X86.replace("hypervisor", "ht"), None),
        (ARM, "0x41 0xd40 asimd asimdhp sve bf16"),
        ("processor : 0\n", ""),
    ],
)
def test_what_libraries_choose_kernels_by(
    told: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they do not choose by makes no other kind (None: that of the first case)."""
    (tmp_path / "cpuinfo").write_text(told)
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    first = "GenuineIntel avx avx2 fma avx512f avx512bw avx512dq avx512vl amx_tile"
    assert (machine.cpu_isa() or "") == (first if kind is None else kind)
