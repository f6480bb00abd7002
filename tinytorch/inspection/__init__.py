"""What is it doing, what is wrong? Filters, feature maps, mistakes, curves, fronts.

Each thing to see is two functions: one computes arrays or rows, with NumPy alone; `draw_...` of the
same name draws them. Pictures of pixels (filters, maps) are arrays; charts are drawn by matplotlib,
which is optional. `save_figure` writes both. Knows numbers and layers, never how they came about.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.inspection.ablation import AblationRow, ablation_chart, draw_ablation_chart
from tinytorch.inspection.curves import draw_learning_curves, learning_curves
from tinytorch.inspection.feature_maps import (
    draw_feature_maps,
    draw_filters,
    feature_maps,
    filters,
)
from tinytorch.inspection.figures import save_figure
from tinytorch.inspection.mistakes import (
    Mistake,
    confusion_matrix,
    draw_confusion_matrix,
    draw_worst_mistakes,
    worst_mistakes,
)
from tinytorch.inspection.pareto import draw_pareto_front, pareto_front
from tinytorch.inspection.pictures import png, sheet

__all__ = [
    "AblationRow", "Mistake", "ablation_chart", "confusion_matrix", "draw_ablation_chart",
    "draw_confusion_matrix", "draw_feature_maps", "draw_filters", "draw_learning_curves",
    "draw_pareto_front", "draw_worst_mistakes", "feature_maps", "filters", "learning_curves",
    "pareto_front", "png", "save_figure", "sheet", "worst_mistakes",
]  # fmt: skip

_explain_all(globals(), __all__)
__getattr__ = _names_of("inspection", lambda: __all__)
