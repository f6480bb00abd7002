"""How times, ratios and measurements are written.

Knows rows and machines as plain values; never files.
"""

from __future__ import annotations

from tinytorch.base.amounts import time_text


def time(seconds: float) -> str:
    """With two digits after the point, whatever the unit: "2.31 s", "5.02 ms", "27.72 us"."""
    return time_text(seconds, ".2f")


def ratio(found: dict) -> str:
    """With its interval."""
    return f"{found['ratio']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def share_of_peak(row: dict, limits: dict) -> float | None:
    """The least time that the row's work can take, by its time; None without work.

    The least is set by the operations at the measured peak of the row's number type, or by the
    bytes at the measured bandwidth, whichever takes longer.
    """
    operations, moved = row["work"]["operations"], row["work"]["bytes"]
    if not operations:
        return None
    peak = limits[row["setting"].get("precision", "float32")] or limits["float32"]
    return max(operations / peak, moved / limits["bandwidth"]) / row["seconds"]["ours"]


def row(found: dict, limits: dict) -> str:
    """A measurement in a few lines."""
    lines = [f"  {found['name']}"]
    share = share_of_peak(found, limits)
    for name, seconds in found["seconds"].items():
        line = f"    {name:<32}{time(seconds):>12}"
        if name == "ours" and share is not None:
            speed = found["work"]["operations"] / seconds / 1e9
            line += f"   {speed:.0f} GFLOP/s, {100 * share:.0f} % of the limit"
        lines.append(line)
    for name, megabytes in found.get("megabytes", {}).items():
        lines.append(f"    {name:<32}{megabytes:>9.0f} MB")
    if found.get("control"):
        lines.append(f"    {'ours against itself':<32}{ratio(found['control']):>26}")
    for name, against in found["against"].items():
        lines.append(f"    {name + ': ratio':<32}{ratio(against):>26}   to {against['peer']}")
    return "\n".join(lines)


def machine(facts: dict) -> str:
    """A machine, its commit and its measured limits in a line."""
    limits = facts["limits"]
    return (
        f"{facts['processor']['name']}, {facts['threads']} threads, commit {facts['commit']}: "
        f"{limits['float32'] / 1e9:.0f} GFLOP/s float32, {limits['bf16'] / 1e9:.0f} bf16, "
        f"{limits['bandwidth'] / 1e9:.1f} GB/s"
    )
