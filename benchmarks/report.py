"""From numbers to tables: one structure, printed in colour or written as Markdown."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import geometric_mean

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .growth import BASE, FACTORS, GROWS, exponent
from .workloads import WORKLOADS

ROWS = {
    "import": "import",
    "build": "build and compile()",
    "first_epoch": "first epoch",
    "steady_epoch": "steady epoch",
    "evaluate": "evaluate",
    "predict": "predict, one sample",
    "call": "model(x), one sample",
    "train_on_batch": "train_on_batch",
    "memory": "peak memory",
    "to_evaluation": "start to evaluation",
}
GPU_ROWS = {"device_memory": "peak memory of the GPU"}
PROCESS_ROWS = {"cold": "first run", "warm": "every later run"}
PROCESS = f"A whole process: import, {WORKLOADS['linear'].epochs} epochs of the linear classifier, prediction, exit"
GROWTH = (
    "How lamina's steady step grows: time ~ size^exponent, for an MLP of "
    f"{BASE['depth']} layers of {BASE['width']}, {BASE['rows']:,} rows, batch {BASE['batch']}"
)
NOTE = (
    "A ratio is to lamina's value in the same row: 3.0x means that lamina needs a third; below 1 the other is faster. "
    "The best peer is the one that needs least."
)
BEST = "best peer"


@dataclass(frozen=True)
class Cell:
    """A value as text, and how many times lamina's it is."""

    text: str
    ratio: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells, one for each column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def tables(results: dict, peaks: dict, quick: bool) -> list[Table]:
    """One table for each workload, and the summaries of those that have the same peers."""
    found, groups = [], {}
    for name, by_peer in results.items():
        if name == "growth":
            found.append(growth(by_peer))
        elif name == "process":
            rows = tuple((label, cells(by_peer, key)) for key, label in PROCESS_ROWS.items())
            found.append(Table(PROCESS, (*by_peer, BEST), rows))
        else:
            found.append(one_workload(name, by_peer, peaks, quick))
            groups.setdefault(tuple(by_peer), {})[name] = by_peer
    return [*found, *(table for group in groups.values() if len(group) > 1 for table in summaries(group))]


def one_workload(name: str, by_peer: dict, peaks: dict, quick: bool) -> Table:
    """All that was measured of a workload, and what part of the machine's peak a steady epoch reaches."""
    workload = WORKLOADS[name]
    labels = ROWS | GPU_ROWS | {f"steady {stream}": f"epoch from {stream}" for stream in workload.streams}
    measured = {key for found in by_peer.values() for key in found}
    rows = [(label, cells(by_peer, key)) for key, label in labels.items() if key in ROWS or key in measured]
    title = workload.title.format(rows=workload.size(quick))
    if flops := next((found["flops"] for found in by_peer.values() if "flops" in found), 0):
        title += f"; {operations(flops)} a step"
        epochs = [found.get("steady_epoch") for found in by_peer.values()]
        for which, peak in peaks.items():
            least = flops * workload.steps(quick) / peak
            shares = (Cell(f"{least / epoch:.1%}" if epoch else "-") for epoch in epochs)
            rows.append((f"part of the peak, {which}", (*shares, Cell(""))))
    return Table(title, (*by_peer, BEST), tuple(rows))


def growth(by_peer: dict) -> Table:
    """Seconds of a step at each size, and the slope."""
    found, rows = by_peer.get("lamina", {}), []
    for what, (size, other) in GROWS.items():
        seconds = [found.get(f"{what} {factor}") for factor in FACTORS]
        if all(seconds):
            start = (BASE | other)[size]
            label = f"{what}, from {start:,}" if what == size else f"{what}, from {start:,} layers of {other['width']}"
            row = (*(Cell(duration(value)) for value in seconds), Cell(f"{exponent(seconds):.2f}"))
            rows.append((label, row))
    return Table(GROWTH, (*(f"x{factor}" for factor in FACTORS), "exponent"), tuple(rows))


def summaries(group: dict) -> list[Table]:
    """The steady epochs of workloads, and the geometric means of the ratios of every row."""
    columns = (*next(iter(group.values())), BEST)
    by_key = {key: [(name, cells(by_peer, key)) for name, by_peer in group.items()] for key in ROWS}
    found = [Table("Summary: steady epoch", columns, tuple(by_key["steady_epoch"]))]
    if any(cell.ratio for _, row in by_key["steady_epoch"] for cell in row):
        averages = tuple((label, means(by_key[key])) for key, label in ROWS.items())
        found.append(Table(f"Summary: geometric means over {len(group)} workloads", columns, averages))
    return found


def cells(by_peer: dict, key: str) -> tuple[Cell, ...]:
    """One row: the value of each peer and its ratio to lamina's where there is one; last the best of the others."""
    base = by_peer.get("lamina", {}).get(key)

    def cell(peer):
        value = by_peer[peer].get(key)
        if value is None:
            return Cell("failed" if "failed" in by_peer[peer] else "-")
        text = f"{value / 2**20:,.0f} MB" if key.endswith("memory") else duration(value)
        return Cell(text, value / base if base and peer != "lamina" else None)

    row = {peer: cell(peer) for peer in by_peer}
    ratios = {peer: cell.ratio for peer, cell in row.items() if cell.ratio is not None}
    best = min(ratios, key=ratios.get, default=None)
    return (*row.values(), Cell(best, ratios[best]) if best else Cell(""))


def means(rows) -> tuple[Cell, ...]:
    """The geometric mean of the ratios in each column."""
    ratios = [[cell.ratio for cell in column if cell.ratio is not None] for column in zip(*(row for _, row in rows))]
    return tuple(Cell("", geometric_mean(column) if column else None) for column in ratios)


def failures(results: dict) -> list[str]:
    """A line for each process that did not finish."""
    return [
        f"{name} on {peer} failed: {found['failed']}"
        for name, by_peer in results.items()
        for peer, found in by_peer.items()
        if "failed" in found
    ]


def duration(seconds: float) -> str:
    """Seconds as text of three digits, in the unit that fits."""
    unit, size = next((u for u in (("s", 1.0), ("ms", 1e-3)) if seconds >= u[1]), ("µs", 1e-6))
    value = seconds / size
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {unit}"


def operations(flops: int) -> str:
    """Floating point operations as text, in the unit that fits."""
    unit, size = next((u for u in (("GFLOP", 1e9), ("MFLOP", 1e6), ("kFLOP", 1e3)) if flops >= u[1]), ("FLOP", 1))
    return f"{flops / size:.3g} {unit}"


def times(ratio: float) -> str:
    """A ratio as text."""
    return f"{ratio:.2f}x" if ratio < 0.95 else f"{ratio:.1f}x" if ratio < 99.5 else f"{ratio:,.0f}x"


def machine() -> str:
    """One line about what the numbers were taken on."""
    versions = []
    for name in ("lamina", "keras", "jax", "flax", "optax", "tensorflow", "tensorflow-cpu", "torch"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {cores} cores; Python {platform.python_version()}, {', '.join(versions)}"


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def print_tables(report: list[Table], notes: list[str], console: Console) -> None:
    """Print all tables; green where lamina needs less, red where it needs more."""
    for table in report:
        # Not on rich's title, which would be wrapped to the width of a narrow table.
        console.print(f"\n[bold]{table.title}[/bold]", highlight=False)
        rich = RichTable(header_style="bold")
        rich.add_column("")
        for column in table.columns:
            rich.add_column(column, justify="right")
        for label, row in table.rows:
            rich.add_row(label, *(coloured(cell) for cell in row))
        console.print(rich)
    console.print(NOTE, style="dim")
    for line in notes:
        console.print(line, style="red", markup=False, highlight=False)


def coloured(cell: Cell) -> Text:
    """A cell for the terminal."""
    text = Text(cell.text, style="red" if cell.text == "failed" else "")
    if cell.ratio is not None:
        style = "green" if cell.ratio > 1.05 else "red" if cell.ratio < 0.95 else "dim"
        text.append(f" {times(cell.ratio):>6}", style=style)
    return text


def markdown(report: list[Table], notes: list[str], about: str) -> str:
    """All tables as Markdown."""
    lines = [f"Measured on {about}.", "", NOTE]
    for table in report:
        lines += ["", f"**{table.title}**", "", "| | " + " | ".join(table.columns) + " |"]
        lines.append("|---|" + "---:|" * len(table.columns))
        for label, row in table.rows:
            lines.append(f"| {label} | " + " | ".join(plain(cell) for cell in row) + " |")
    if notes:
        lines += ["", *(f"- {line}" for line in notes)]
    return "\n".join(lines) + "\n"


def plain(cell: Cell) -> str:
    """A cell for Markdown."""
    return f"{cell.text} ({times(cell.ratio)})".strip() if cell.ratio is not None else cell.text
