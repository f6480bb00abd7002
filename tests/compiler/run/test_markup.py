"""Text of pages.

Ground truth: HTML's rules of escaping (WHATWG HTML, "Serializing HTML fragments"), by hand.
"""

import pytest

from tinytorch.compiler.run.markup import Markup, joined, tag


def test_text_is_escaped_and_markup_is_not():
    """By hand, in the body and in an attribute, once each."""
    inside = tag("b", "<i>", title='"a" & <b>')
    assert inside == '<b title="&quot;a&quot; &amp; &lt;b&gt;">&lt;i&gt;</b>'
    assert tag("p", inside, "&") == f"<p>{inside}&amp;</p>"
    assert joined(["<", Markup("<br>"), ">"], ",") == "&lt;,<br>,&gt;"


@pytest.mark.parametrize(
    ("made", "written"),
    [
        (tag("a", class_="x", aria_label="y", for_=None), '<a class="x" aria-label="y"></a>'),
        (tag("rect", x=1.0, y=2.345, width=3), '<rect x="1" y="2.35" width="3"></rect>'),
        (tag("circle", r=100.0), '<circle r="100"></circle>'),
        (tag("meta", charset="utf-8"), '<meta charset="utf-8">'),
    ],
)
def test_attributes(made, written):
    """By hand: names that Python takes, numbers, what is left out, elements without an end."""
    assert made == written and isinstance(made, Markup)
