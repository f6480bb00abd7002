"""The page about a program.

Ground truth: HTML's rule that elements nest, by the standard library's parser; the stages and the
plan of the program, every one of which must be named; no address outside the page.
"""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.compiler.run import page as pages
from tinytorch.compiler.run.page import cut, fair_share

VOID = {"meta", "input", "br"}  # HTML elements that have no end


class Reader(HTMLParser):
    """What a page consists of, and where it breaks HTML's rules."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.problems, self.addresses, self.ids = [], [], [], []
        self.text, self.tags = "", set()
        self.feed(text)
        self.close()
        self.problems += [f"{name} never ends" for name in self.open]

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        given = dict(attrs)
        if len(given) != len(attrs):
            self.problems.append(f"{tag} has an attribute twice")
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action", "data", "srcset")]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"{tag} ends where it is not the last one")

    def handle_data(self, data):
        self.text += data


def problems(text):
    """Everything that must not be in a page."""
    reader = Reader(text)
    found = list(reader.problems)
    found += [f"leads away: {a}" for a in reader.addresses if not a.startswith("#")]
    found += [f"leads nowhere: {a}" for a in reader.addresses if a[1:] not in reader.ids]
    found += [f"{i} stands twice" for i in set(reader.ids) if reader.ids.count(i) > 1]
    outside = re.findall(r"(?:https?:)?//[\w.-]+\.\w+|@import|url\(|<script|<link|<iframe", text)
    return found + [f"from outside: {o}" for o in outside]


@pytest.mark.parametrize(
    "wrong",
    ["<p><b></p>", "<p>", "</p>", '<a href="https://example.org">a</a>', '<a href="#no">a</a>',
     '<i id="a"></i><i id="a"></i>', "<style>@import 'x'</style>", "<script></script>",
     "<p>http://example.org</p>", '<img src="picture.png">'],
)  # fmt: skip
def test_what_is_wrong_with_a_page_is_seen(wrong):
    """By hand: one fault each; a good one has none."""
    assert problems(wrong) and not problems('<p id="a">b<br><a href="#a">c</a></p>')


@pytest.fixture(scope="module")
def step():
    w = tt.Tensor(np.full((40, 30), 0.1, np.float32), requires_grad=True)

    def step(x):
        w.grad = None
        h = (x @ w).tanh()
        loss = (h**2).mean()
        loss.backward()
        with tt.no_grad():
            w.assign_(w - 0.1 * w.grad)
        return loss

    compiled = tt.compile(step, threads=2)
    compiled(np.ones((20, 40), np.float32))
    return compiled, w


def written(compiled, path):
    compiled.page(path)
    return path.read_text()


def test_a_page_shows_all_of_a_program(step, tmp_path):
    """Ground truth: stages(), the plan, the user's lines; nothing was trained by looking."""
    compiled, w = step
    before = w.numpy().copy()
    text = written(compiled, tmp_path / "step.html")
    assert not problems(text)
    reader, program = Reader(text), compiled._last.program
    for name in compiled.stages():
        assert f"pass-{name.replace(' ', '-')}" in reader.ids
    for task in program.plan.tasks:
        assert task.symbol in reader.ids and task.label in reader.text
    for line in {n.where for n in program.graph.nodes if n.where}:
        assert line in reader.text
    assert "def program(" in reader.text and "define void" in reader.text
    assert ".text" in reader.text and "group 0:" in reader.text
    assert {"svg", "rect", "circle", "details", "table"} <= reader.tags
    assert reader.text.count("Simplification changed: ") == 1
    assert reader.text.count("as the stage before left it") == 3, (
        "no sum ends early, nothing is recomputed or derived"
    )
    np.testing.assert_array_equal(w.numpy(), before)


def test_each_operation_stands_beside_the_users_line(step, tmp_path):
    """Ground truth: the file of this test: tanh stands on a line before that of its square."""
    compiled, _ = step
    text = Reader(written(compiled, tmp_path / "step.html")).text
    with open(__file__, encoding="utf-8") as file:
        (number,) = [i for i, line in enumerate(file, 1) if line.endswith("h = (x @ w).tanh()\n")]
    (line,) = [x for x in text.split("\n") if "= tanh(" in x][:1]
    assert line.endswith(f"test_page.py:{number}")


def test_one_kernel_and_no_kernel(tmp_path):
    """Invariant: pages of the smallest programs are whole: one kernel, none, and a host call."""
    for i, (f, x) in enumerate(
        [
            (lambda x: x * 2, np.ones(5, np.float32)),
            (lambda x: x.reshape(5), np.ones((5, 1), np.float32)),
            (lambda x: (x * 2).sort(dim=0).values + 1, np.ones((9, 2), np.float32)),
            (lambda x: 3.0, np.ones(1, np.float32)),
        ]
    ):
        compiled = tt.compile(f)
        compiled(x)
        text = written(compiled, tmp_path / f"{i}.html")
        assert not problems(text)
        assert ("No temporaries" in text) == (compiled._last.program.plan.arena == 0)


def test_names_of_users_are_escaped(tmp_path):
    """Ground truth: a function whose name is markup; it is text in the page."""

    def f(x):
        return x + 1

    f.__qualname__ = "<script>alert('a')</script>"
    compiled = tt.compile(f)
    compiled(np.ones(3, np.float32))
    text = written(compiled, tmp_path / "a.html")
    assert not problems(text) and f.__qualname__ in Reader(text).text


def test_long_texts_are_cut(step, tmp_path, monkeypatch):
    """Ground truth: the sizes asked for; the page is whole, and says what is missing."""
    compiled, _ = step
    whole = len(written(compiled, tmp_path / "a.html"))
    monkeypatch.setattr(pages, "CODE_BYTES", 3000)
    monkeypatch.setattr(pages, "STAGE_BYTES", 300)
    text = written(compiled, tmp_path / "b.html")
    assert not problems(text) and len(text) < whole - 20_000
    assert re.search(r"\.\.\. \d+ more lines", text)


def test_nothing_is_lost_between_the_cuts():
    """By hand: lines kept and lines counted make the text; shares fill the whole and no more."""
    text = "\n".join(str(i) for i in range(100))
    for most in (0, 1, 5, 100, 289, 290):
        shown = cut(text, most)
        kept, mark, rest = shown.rpartition("... ")
        lines = [line for line in kept.split("\n") if line] if mark else shown.split("\n")
        assert lines == text.split("\n")[: len(lines)] and len(kept) <= most + 1
        assert len(lines) + int(rest.split()[0] if mark else 0) == 100
    for sizes in ([10, 20, 100, 200], [5], [100, 100]):
        most = fair_share(sizes, 130)
        assert sum(min(n, most) for n in sizes) <= 130
        assert sum(min(n, most + 1) for n in sizes) > 130 or sum(sizes) <= 130
