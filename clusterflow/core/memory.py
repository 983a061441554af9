"""Peak memory of this process."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path


def forget_peak_memory() -> None:
    """Lets the kernel measure the peak anew, so that what a process did before does not count (Linux only)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_MB() -> float:  # noqa: N802 - the unit
    """MB that this process has held at once since it began, or since `forget_peak_memory`.

    getrusage's figure would not do where /proc tells: it includes what the parent held before this program began.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


def free_memory_bytes() -> int:
    """Bytes that this process may still take: what the machine has left, or its control group where that is less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such version of control groups, or "max"
            free = min(free, max(int(Path(limit).read_text()) - int(Path(used).read_text()), 0))
    return free
