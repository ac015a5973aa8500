"""How much other programs worked meanwhile: times from a busy machine mislead, and not all peers alike."""

import os
import resource
from pathlib import Path

STAT = Path("/proc/stat")
QUIET = 0.1  # of the whole processor


class Watch:
    """Counts, from when it is made, what others took of the processor; silent where there is no /proc."""

    def __init__(self):
        self.start = self.read()

    def notes(self) -> list[str]:
        """A warning, if others took more than a tenth."""
        if self.start is None:
            return []
        total, busy, own = (now - then for now, then in zip(self.read(), self.start))
        share = max(0.0, busy - own) / max(total, 1e-9)
        if share <= QUIET:
            return []
        return [
            f"Other programs took {share:.0%} of the processor meanwhile. Do not trust these numbers: "
            "torch's threads wait by spinning, which can make them ten times slower on a busy machine."
        ]

    @staticmethod
    def read() -> tuple[float, float, float] | None:
        """Processor seconds since the machine started, those that were busy, and those of our own."""
        if not STAT.exists():
            return None
        # cpu user nice system idle iowait irq softirq steal ..., summed over all cores
        ticks = [int(field) for field in STAT.read_text().split("\n")[0].split()[1:9]]
        second = os.sysconf("SC_CLK_TCK")
        total = sum(ticks)
        busy = total - ticks[3] - ticks[4]
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return total / second, busy / second, sum(u.ru_utime + u.ru_stime for u in usage)
