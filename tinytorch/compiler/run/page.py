"""A compiled program as one HTML page: what every pass made of it, what ran when, and its code.

Knows what there is to show and in which order; pictures are drawn in charts.py, text is escaped in
markup.py. The page is one file that needs nothing else: no script or style from anywhere, so that
it opens without a network and after years. Long texts are cut so that it stays small: a large
program has megabytes of assembly.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tinytorch.base.amounts import count_text, size_text, time_text
from tinytorch.base.files import replacing, user_path
from tinytorch.codegen import engine
from tinytorch.codegen.kernel import Kernel
from tinytorch.compiler.graph.graph import Captured, Graph
from tinytorch.compiler.graph.rewriter import Simplified
from tinytorch.compiler.pipeline import MEANINGS, stages
from tinytorch.compiler.plan.arena import Arena
from tinytorch.compiler.plan.launch import LaunchTask
from tinytorch.compiler.plan.stages import Fused
from tinytorch.compiler.run import charts
from tinytorch.compiler.run.charts import PicturePart
from tinytorch.compiler.run.executable import Executable
from tinytorch.compiler.run.kernel_sums import KernelSum, kernel_sums, short_name
from tinytorch.compiler.run.markup import Markup, joined, tag
from tinytorch.compiler.run.page_style import STYLE
from tinytorch.compiler.run.roofline import Bound, Roofline, bounds, measure
from tinytorch.compiler.run.timing import TimedRun, timed_run
from tinytorch.compiler.run.trace import alive_bytes, thread_names

CODE_BYTES = 2_500_000  # of LLVM and assembly on a page
STAGE_BYTES = 150_000  # of the print of one stage
COLOURS = 7  # for the kinds of kernel that take longest; all others share one


def write_page(call: Executable, name: str, path: str | os.PathLike[str]) -> None:
    """Run the program on copies of its states, and write the page about it.

    Args:
        call: the program.
        name: what it is called.
        path: of the file; "~" is filled in.

    Raises:
        StorageError: the file cannot be written.
    """
    program, target = call.program, call.program.target
    made = dict(stages(program.graph, target))
    limit = measure(target, call.threads)
    view = View(call, name, made, timed_run(call), limit, bounds(program.plan, limit))
    with replacing(user_path(path)) as file:
        file.write(page(view).encode())


@dataclass(frozen=True)
class View:
    """All that the page is written from.

    Args:
        call: the program.
        name: what it is called.
        made: what each pass made, by its name.
        run: which thread did what when.
        limit: what the machine can do.
        bounds: the least time of each task.
    """

    call: Executable
    name: str
    made: dict[str, Any]
    run: TimedRun
    limit: Roofline
    bounds: list[Bound]

    @cached_property
    def tasks(self) -> list[LaunchTask]:
        """In the order in which they run, those of a loop in each trip."""
        return [one.task for one in self.call.program.plan.launched]

    @cached_property
    def rows(self) -> list[KernelSum]:
        """The kernels, those that take longest first."""
        kernels = kernel_sums(self.call.program.plan, self.run, self.bounds)
        return sorted(kernels, key=lambda kernel: -kernel.seconds)

    @cached_property
    def colours(self) -> dict[str, str]:
        """The class of each kind of kernel."""
        kinds = dict.fromkeys(short_name(row.symbol) for row in self.rows)
        return {kind: f"k{min(i, COLOURS)}" for i, kind in enumerate(kinds)}

    def colour(self, i: int) -> str:
        """The class of a task."""
        return self.colours[short_name(self.tasks[i].symbol)]

    def title(self, i: int) -> str:
        """What is shown of a task under the pointer."""
        task, bound = self.tasks[i], self.bounds[i]
        seconds = self.run.seconds(i)
        share = f", {bound.seconds / seconds:.0%} of {bound.by}" if bound.seconds else ""
        return (
            f"{i}: {task.label or task.symbol}\n{short_name(task.symbol)}, "
            f"{time_text(seconds)}{share}\n{self.call.program.where(task)}"
        )

    @cached_property
    def lines(self) -> dict[tuple[str, str], list[str]]:
        """The user's lines of the groups with a label and a first line; see `lines_of`."""
        fused: Fused = self.made["fuse"]
        out: dict[tuple[str, str], dict[str, None]] = {}
        for group in fused.groups:
            where = dict.fromkeys(n.where for n in group.nodes if n.where[:1] not in ("", "<"))
            for first in where:
                out.setdefault((group.label, first), {}).update(where)
        return {key: list(where) for key, where in out.items()}

    def lines_of(self, row: KernelSum) -> list[str]:
        """The user's lines of a kernel."""
        found: dict[str, None] = {}
        for i in row.tasks:
            if self.tasks[i].node >= 0:
                where = self.call.program.where(self.tasks[i])
                found.update(dict.fromkeys([where, *self.lines.get((row.label, where), [])]))
        return list(found)


def page(view: View) -> Markup:
    """The whole page."""
    sections = {
        "Time line": _time_line(view),
        "Kernels": _kernels(view),
        "Roofline": _roofline(view),
        "Memory": _memory(view),
        "Passes": _passes(view),
        "Code": _code(view),
    }
    menu = [tag("a", name, href=f"#{_anchor(name)}") for name in sections]
    body = [
        tag("header", tag("h1", view.name), _summary(view), _cards(view)),
        tag("nav", *menu),
        *(
            tag("section", tag("h2", name), *inside, id=_anchor(name))
            for name, inside in sections.items()
        ),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{view.name}, compiled"),
        tag("style", Markup(STYLE)),
    ]
    whole = tag("html", tag("head", *head), tag("body", *body), lang="en")
    return Markup("<!DOCTYPE html>\n" + whole + "\n")


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _note(*text: str) -> Markup:
    return tag("p", *text, class_="note")


def _summary(view: View) -> Markup:
    program = view.call.program
    hosts = len(program.host_calls)
    return _note(
        f"A compiled program for {program.target.name}, {view.run.threads} threads, "
        f"{hosts} host calls. Measured on this machine: {view.limit}. Times are those of the "
        "fastest of some runs on copies of the states."
    )


def _cards(view: View) -> Markup:
    run, plan = view.run, view.call.program.plan
    whole, flops = run.whole * 1e-9, sum(t.flops for t in view.tasks)
    least = sum(b.seconds for b in view.bounds)
    facts = [
        (time_text(whole), "one run"),
        (f"{least / whole:.0%}", "of what the machine can do"),
        (str(len(view.tasks)), f"kernels run, {len({t.symbol for t in view.tasks})} different"),
        (f"{flops / whole / 1e9:.1f}", f"GFLOP/s, {count_text(flops)} operations"),
        (size_text(plan.arena), "arena for temporaries"),
        (f"{run.between / run.whole:.1%}", "of the time between kernels"),
        (f"{run.around / run.whole:.1%}", "in Python, waking threads"),
        (f"{run.waiting / (run.threads * run.at_tasks or 1):.1%}", "of threads' time, waiting"),
    ]
    return tag("div", *(tag("div", tag("b", n), what) for n, what in facts), class_="cards")


def _legend(view: View) -> Markup:
    named: dict[str, list[str]] = {}
    for kind, colour in view.colours.items():
        named.setdefault(colour, []).append(kind)
    return tag(
        "p", *(tag("span", tag("i", class_=c), ", ".join(kinds)) for c, kinds in named.items()),
        class_="legend",
    )  # fmt: skip


def _time_line(view: View) -> list[Markup]:
    run = view.run
    parts = [
        PicturePart(
            s.worker, (s.begin - run.begin) * 1e-9, (s.end - run.begin) * 1e-9, 0, 0,
            view.colour(s.task), view.tasks[s.task].label or view.tasks[s.task].symbol,
            f"{view.title(s.task)}\n{s.tiles} of {view.tasks[s.task].tiles} tiles",
        )
        for s in run.spans
    ]  # fmt: skip
    zoom = tag(
        "input", type="range", min="100", max="4000", value="100", aria_label="zoom",
        oninput="document.getElementById('time').style.width=this.value+'%'",
    )  # fmt: skip
    return [
        _note(
            "Each kernel on each thread; empty is waiting for others, or Python. Point at one for "
            "its operations and your line; widen with ", zoom
        ),
        charts.time_line(parts, thread_names(run.threads), max(run.whole, 1) * 1e-9),
        _legend(view),
    ]  # fmt: skip


def _kernels(view: View) -> list[Markup]:
    whole = view.run.whole * 1e-9
    head = ("kernel", "operations", "your lines", "runs", "time", "share", "of the limit", "FLOPs",
            "bytes")  # fmt: skip
    rows = [_kernel(view, row, whole) for row in view.rows]
    for name, taken in (("between kernels", view.run.between), ("around", view.run.around)):
        bar = _bar(taken * 1e-9 / whole)
        shown = ["", "", "", time_text(taken * 1e-9), bar, "", "", ""]
        rows.append(tag("tr", tag("td", name), *(tag("td", cell) for cell in shown)))
    table = tag(
        "table", tag("thead", tag("tr", *(tag("th", h) for h in head))), tag("tbody", *rows)
    )
    return [
        _note(
            "Longest first; equal kernels with equal operations are one row. The limit is the "
            "least time this machine needs for the arithmetic (fp32, fp64, bf16), or for the bytes "
            "from memory or a cache; what is too small for either is limited by its start. An "
            "exponential counts as one operation and takes some twenty instructions, so kernels "
            "that are full of them stay below the limit."
        ),
        tag("div", table, class_="wide"),
    ]


def _kernel(view: View, row: KernelSum, whole: float) -> Markup:
    kind = short_name(row.symbol)
    reached = row.least / row.seconds if row.least else 0.0
    cells = [
        joined([tag("i", class_=view.colours[kind]), tag("a", kind, href=f"#{row.symbol}")]),
        row.label,
        joined((tag("code", where) for where in view.lines_of(row)), " "),
        str(len(row.tasks)),
        time_text(row.seconds),
        _bar(row.seconds / whole),
        joined([_bar(reached), tag("small", row.limit)]) if row.least else tag("small", row.limit),
        count_text(row.flops),
        size_text(row.bytes),
    ]
    return tag("tr", *(tag("td", cell) for cell in cells))


def _bar(share: float) -> Markup:
    inside = tag("i", style=f"width:{100 * min(share, 1):.1f}%")
    return tag("span", inside, f"{share:.1%}" if share < 0.1 else f"{share:.0%}", class_="bar")


def _roofline(view: View) -> list[Markup]:
    whole = view.run.whole * 1e-9
    shown = [row for row in view.rows if row.flops and row.bytes]
    dots = [
        PicturePart(
            round(3 + 14 * (row.seconds / whole) ** 0.5), 0, row.seconds, row.flops, row.bytes,
            view.colours[short_name(row.symbol)], "",
            f"{row.label}\n{row.flops / row.bytes:.1f} operations a byte, "
            f"{row.flops / row.seconds / 1e9:.1f} GFLOP/s, {row.seconds / whole:.1%} of the time",
        )
        for row in shown
    ]  # fmt: skip
    peaks = [(f"{unit}: {p / 1e9:.0f} GFLOP/s", p) for unit, p in view.limit.peaks.items()]
    near, far = view.limit.reads[0], view.limit.reads[-1]
    reads = [
        (f"nearest cache: {near[1] / 1e9:.0f} GB/s", near[1]),
        (f"memory: {far[1] / 1e9:.0f} GB/s", far[1]),
    ]
    rest = len(view.rows) - len(shown)
    return [
        _note(
            "A dot is a row of the table above, larger the longer it takes. Under a slanted line "
            "bytes set the limit, under a level one arithmetic. Bytes are what a kernel must read "
            f"and write at least once; {rest} rows that only move bytes are not shown."
        ),
        charts.roofline(dots, peaks, reads),
    ]


def _memory(view: View) -> list[Markup]:
    arena: Arena = view.made["plan the arena"]
    if not arena.lifetimes:
        return [
            _note("No temporaries: every value is an argument, a state or a result."),
            _folded("All memory", str(arena)),
        ]
    first_writer: dict[Any, int] = {}
    for i, task in enumerate(arena.program.tasks):
        for s in task.writes:
            first_writer.setdefault(s, i)
    parts: list[PicturePart] = []
    starts = view.call.program.plan.starts
    for s, (first, last) in arena.lifetimes.items():
        first_writer[s] = starts[first_writer.get(s, first)]
        first, last = starts[first], starts[last + 1] - 1
        held = repr(s.value) if s.value is not None else "scratch of a kernel"
        at, colour = arena.offsets[s], view.colour(first_writer[s])
        title = f"{size_text(s.nbytes)}, {held}\ntasks {first} to {last}, at byte {at}"
        parts.append(PicturePart(0, first, last + 1, at, at + s.nbytes, colour, "", title))
    count = len(view.tasks)
    picture = charts.memory(parts, count, arena.arena, alive_bytes(view.call.program.plan))
    edge = tag("div", tag("span", "task 0"), tag("span", f"task {max(0, count - 1)}"),
               class_="edge")  # fmt: skip
    return [
        _note(
            f"The arena, {size_text(arena.arena)}, from the bottom up; tasks from left to right. A "
            "rectangle is a temporary from the task that writes it first to the last that reads "
            "it; the line is what is in use. Without sharing, temporaries would take "
            f"{size_text(arena.total)}; weights, arguments and results are not in it."
        ),
        picture,
        edge,
        _folded("All memory, and the busiest moment", str(arena)),
    ]


def _passes(view: View) -> list[Markup]:
    before: Graph = view.made["capture"].graph
    after: Graph = view.made["simplify"].graph
    counts = [
        ("operations recorded", len(before.nodes)),
        ("after simplification", len(after.nodes)),
        ("groups that become kernels", len(view.made["fuse"].groups)),
        ("kernels run", len(view.tasks)),
        ("different kernels", len({t.symbol for t in view.tasks})),
    ]
    most = max(1, *(n for _, n in counts))
    funnel = [tag("tr", tag("td", what), tag("td", _count(n, most))) for what, n in counts]
    folded = [
        _folded(
            name,
            _shown(view, name),
            tag("span", *_with_code(MEANINGS[name])),
            f"pass-{_anchor(name)}",
        )
        for name in view.made
    ]
    return [
        _note("What each pass of the compiler gives, in its own words, in order."),
        tag("table", *funnel, class_="funnel"),
        _changed(before, after),
        *folded,
    ]


def _with_code(text: str) -> list[str]:
    """What stands between backquotes as code."""
    return [tag("code", part) if i % 2 else part for i, part in enumerate(text.split("`"))]


def _count(n: int, most: int) -> Markup:
    inside = tag("i", style=f"width:{100 * n / most:.1f}%")
    return tag("span", inside, str(n), class_="bar")


def _changed(before: Graph, after: Graph) -> Markup:
    """How often each primitive stood before simplification, and after it."""
    old, new = (Counter(n.primitive.name for n in g.nodes) for g in (before, after))
    changes = [f"{p} {old[p]} to {new[p]}" for p in sorted({*old, *new}) if old[p] != new[p]]
    if not changes:
        return _note("Simplification left every operation as it was.")
    return _note("Simplification changed: ", ", ".join(changes), ".")


def _shown(view: View, name: str) -> str:
    """The print of a stage; graphs with the user's line beside each operation."""
    names, made = list(view.made), view.made[name]
    if names.index(name) and made is view.made[names[names.index(name) - 1]]:
        return "as the stage before left it"
    text = str(made)
    if isinstance(made, (Captured, Simplified)):
        lines, nodes = text.split("\n"), made.graph.nodes
        start = 1 + len(made.graph.constants)
        for i, node in enumerate(nodes):
            lines[start + i] += f"  {node.where}" if node.where else ""
        text = "\n".join(lines)
    return cut(text, STAGE_BYTES)


def _code(view: View) -> list[Markup]:
    target = view.call.program.target
    kernels: dict[str, Kernel] = {k.name: k for k in view.made["lower"].kernels}
    order = [s for s in dict.fromkeys(row.symbol for row in view.rows) if s in kernels]
    assembly = {s: engine.assembly_text(engine.module_text([kernels[s]]), target) for s in order}
    texts = [t for s in order for t in (kernels[s].ir, assembly[s])]
    most = fair_share([len(t) for t in texts], CODE_BYTES)
    folded: list[Markup] = []
    for s in order:
        k = kernels[s]
        inside = joined(
            [
                _folded("LLVM IR, as the compiler writes it", cut(k.ir, most)),
                _folded(f"Assembly for {target.cpu}", cut(assembly[s], most)),
            ]
        )
        what = tag("span", f"{k.label or s}: {k.tiles} tiles, unit {k.unit}")
        folded.append(_folded(s, inside, what, s))
    hosts = sorted(set(view.call.program.host_calls))
    return [
        _note("Each kernel once: the text that is compiled, and what LLVM makes of it."),
        *folded,
        *(tag("p", f"{name}: NumPy, no code of ours", id=name) for name in hosts),
    ]


def _folded(name: str, inside: str, what: str = "", anchor: str | None = None) -> Markup:
    """Something that is opened by a click."""
    body = inside if isinstance(inside, Markup) else tag("pre", inside)
    # the anchor lies inside: browsers open what they are led into
    body = tag("div", body, id=anchor) if anchor else body
    return tag("details", tag("summary", tag("b", name), " ", what), body)


def cut(text: str, most: int) -> str:
    """Whole lines of a text, up to `most` characters, and how many more there were.

    >>> cut("one\\ntwo\\nthree", 8)
    'one\\ntwo\\n... 1 more lines'
    """
    if len(text) <= most:
        return text
    kept = text[:most].rpartition("\n")[0]
    return f"{kept}\n... {text.count(chr(10), len(kept) + 1) + 1} more lines"


def fair_share(sizes: Sequence[int], whole: int) -> int:
    """The longest that each text may be, so that all together are no longer than `whole`.

    Short texts stay as they are, long ones share what is left.

    >>> fair_share([10, 20, 100, 200], 130), fair_share([1, 2], 10)
    (50, 10)
    """
    left = whole
    for i, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - i)
        if size > share:
            return share
        left -= size
    return whole
