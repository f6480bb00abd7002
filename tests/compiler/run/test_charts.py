"""Pictures: where shapes lie.

Ground truth: closed forms for a few shapes, read back from the markup.
"""

import re

import pytest

from tinytorch.compiler.run.charts import PicturePart, memory, roofline, scale_for, steps, time_line


def part(row=0, left=0.0, right=1.0, low=0.0, high=1.0, name="n", title="t"):
    return PicturePart(row, left, right, low, high, "k3", name, title)


def numbers(text, name):
    return [float(x) for x in re.findall(rf' {name}="(-?[\d.]+)"', text)]


def test_a_time_line_is_in_percent_of_the_whole():
    """Closed form: from 1 to 3 of 4 seconds is 25 % in, 50 % wide; what is short has no name."""
    short = part(1, 2.0, 2.0001, name="short")
    text = time_line([part(0, 1.0, 3.0, name="<long>"), short], ["first", "second"], 4.0)
    assert 'style="left:25.000%;width:50.000%"' in text and "&lt;long&gt;" in text
    assert ">short<" not in text and text.index("first") < text.index("&lt;long&gt;")
    assert text.count('class="lane"') == 2


@pytest.mark.parametrize(("whole", "size"), [(8.0, 1.0), (9.0, 2.0), (0.7, 0.1), (45e-6, 10e-6)])
def test_steps_are_round_and_few(whole, size):
    """By hand: 1, 2 or 5 times a power of ten, at most 8 of them."""
    found = steps(whole, 8)
    assert found[0] == 0 and len(found) <= 9 and found[-1] <= whole * (1 + 1e-9)
    assert found[1] == pytest.approx(size)


def test_memory_lies_from_the_bottom_up():
    """Closed form: bytes 25 to 75 of 100, tasks 1 and 2 of 4, in a picture of 1000 x 320."""
    text = memory([part(0, 1, 3, 25, 75)], 4, 100, [0, 50, 50, 0])
    assert numbers(text, "x") == [250] and numbers(text, "width") == [500]
    assert numbers(text, "y") == [80] and numbers(text, "height") == [160]
    assert 'points="0.0,320.0 250.0,320.0 250.0,160.0 500.0,160.0' in text
    assert "<svg" in memory([], 0, 0, [])


def test_an_axis_holds_its_numbers():
    """Closed form: 30 lies at log10(30) / 3 of an axis from 1 to 1000."""
    scale = scale_for([2, 30, 999], 100, 300)
    assert (scale.low, scale.high) == (0, 3) and scale.powers == [1, 10, 100, 1000]
    assert scale.at(10) == pytest.approx(200) and scale.at(1) == 100 and scale.at(1000) == 400


def test_a_dot_on_the_roof_is_drawn_on_its_line():
    """Closed form: a kernel at the peak lies at the height of the level line, one that reads as
    fast as memory on the slanted line."""
    peak, rate = 1e11, 1e10
    at_peak = part(5, 0, 1.0, peak, peak / 1000)
    at_memory = part(5, 0, 1.0, rate * 0.5, rate)
    text = roofline([at_peak, at_memory], [("fp32", peak)], [("near", 1e12), ("far", rate)])
    (cy, other_y), (_, other_x) = numbers(text, "cy"), numbers(text, "cx")
    roofs = re.findall(r'<line class="roof"[^>]*>', text)
    level, near, far = [
        {n: numbers(roof, n)[0] for n in ("x1", "x2", "y1", "y2")} for roof in roofs
    ]
    assert level["y1"] == level["y2"] == cy
    slope = (far["y2"] - far["y1"]) / (far["x2"] - far["x1"])
    assert far["y1"] + slope * (other_x - far["x1"]) == pytest.approx(other_y, abs=0.05)
    assert near["y2"] == far["y2"] == cy
