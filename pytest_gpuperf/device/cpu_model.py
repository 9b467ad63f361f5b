"""The name of the CPU, from the fields of ``/proc/cpuinfo``, which differ between architectures."""

from __future__ import annotations

import platform
import re
from pathlib import Path

#: Names of ARM's implementers and parts, as in lscpu.
_ARM_PARTS = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd0e"): "Cortex-A76AE",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd48"): "Cortex-X2",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4a"): "Neoverse-E1",
    ("0x41", "0xd4b"): "Cortex-A78C",
    ("0x41", "0xd4d"): "Cortex-A715",
    ("0x41", "0xd4e"): "Cortex-X3",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd82"): "Cortex-X4",
    ("0x41", "0xd83"): "Neoverse-V3AE",
    ("0x41", "0xd84"): "Neoverse-V3",
    ("0x41", "0xd85"): "Cortex-X925",
    ("0x41", "0xd87"): "Cortex-A725",
    ("0x41", "0xd8e"): "Neoverse-N3",
    ("0x43", "0x0a1"): "ThunderX",
    ("0x43", "0x0af"): "ThunderX2",
    ("0x46", "0x001"): "A64FX",
    ("0x48", "0xd01"): "Kunpeng-920",
    ("0x4e", "0x003"): "Denver 2",
    ("0x4e", "0x004"): "Carmel",
    ("0x51", "0x001"): "Oryon",
    ("0x51", "0xc00"): "Falkor",
    ("0x6d", "0xd49"): "Azure Cobalt 100",
    ("0xc0", "0xac3"): "Ampere-1",
    ("0xc0", "0xac4"): "Ampere-1a",
    ("0xc0", "0xac5"): "Ampere-1b",
}
_ARM_IMPLEMENTERS = {
    "0x41": "ARM",
    "0x42": "Broadcom",
    "0x43": "Cavium",
    "0x46": "Fujitsu",
    "0x48": "HiSilicon",
    "0x4e": "NVIDIA",
    "0x50": "APM",
    "0x51": "Qualcomm",
    "0x53": "Samsung",
    "0x61": "Apple",
    "0x6d": "Microsoft",
    "0x70": "Phytium",
    "0xc0": "Ampere",
}
#: Names that say no more than the architecture, such as ``ARMv8 Processor rev 1 (v8l)``.
_GENERIC = re.compile(r"ARMv\d|unknown$|-?$|\d+$", re.IGNORECASE)
#: Fields that name the CPU on one architecture each: x86 and LoongArch, POWER, RISC-V, MIPS.
_NAMES = ("model name", "cpu", "uarch", "cpu model")
#: Numbers that distinguish CPUs without a name: x86, RISC-V, s390.
_NUMBERS = (("vendor_id", "cpu family", "model"), ("mvendorid", "marchid", "mimpid"), ("vendor_id", "machine"))
#: The board of small ARM computers.
_BOARDS = ("model", "hardware")


def cpu_model(path: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model of the CPU; the architecture if the kernel does not report it.

    Args:
        path: File in the format of ``/proc/cpuinfo``.
    """
    processors = _processors(path)
    fields: dict[str, str] = {}
    for processor in processors:
        fields = {**processor, **fields}
    for name in _NAMES:
        if (model := fields.get(name, "")) and not _GENERIC.match(model):
            return model
    board = next((fields[name] for name in _BOARDS if fields.get(name)), "")
    if arm := _arm_parts(processors):
        return f"{arm} ({board})" if board else arm
    for names in _NUMBERS:
        if all(fields.get(name) for name in names):
            return " ".join([fields[names[0]], *(f"{name} {fields[name]}" for name in names[1:])])
    return board or fields.get("model name") or platform.processor() or platform.machine()


def _processors(path: Path) -> list[dict[str, str]]:
    """Return the fields of each block of the file, with names in lower case."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []  # some kernels do not report the model; the architecture remains
    blocks = []
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            # s390 lists a processor in a line: "processor 0: version = FF,  identification = 0133E8,  machine = 2964".
            fields.update({key.lower(): word for key, word in re.findall(r"(\w+) = ([^,\s]+)", value)})
            fields.setdefault(" ".join(name.split()).lower(), " ".join(value.split()))
        blocks.append(fields)
    return blocks


def _arm_parts(processors: list[dict[str, str]]) -> str:
    """Return the kinds of an ARM machine's cores, for example ``Cortex-A72`` or ``Cortex-X1, Cortex-A55``."""
    kinds = dict.fromkeys(
        (block["cpu implementer"].lower(), block.get("cpu part", "").lower())
        for block in processors
        if block.get("cpu implementer")
    )
    names = []
    for implementer, part in kinds:
        maker = _ARM_IMPLEMENTERS.get(implementer, f"implementer {implementer}")
        names.append(_ARM_PARTS.get((implementer, part)) or f"{maker} part {part or 'unknown'}")
    return ", ".join(names)
