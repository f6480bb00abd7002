"""First and second derivatives of a program, for tests of loops and branches."""

import numpy as np

import tinytorch as tt


def numbers(*shape, seed=0):
    return tt.Tensor(np.random.default_rng(seed).standard_normal(shape) * 0.5)


def derivatives(loss, *given):
    """The loss, its gradients, and those of the sum of their squares: second derivatives."""
    places = tuple(range(len(given)))

    def slope(*given):
        return sum((g * g).sum() for g in tt.grad(loss, places)(*given))

    return (loss(*given), *tt.grad(loss, places)(*given), *tt.grad(slope, places)(*given))
