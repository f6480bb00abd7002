"""hooks.py: their order, what they change, and that compiled functions notice them."""

import tinytorch as tt
from tinytorch import nn


def test_hooks_run_in_order_and_may_change_inputs_and_output():
    """Closed form: ((x + 1) * 2) + 3, the hooks seen in the order of registration."""
    seen = []

    class Double(nn.Module):
        def forward(self, x):
            return x * 2.0

    layer = Double()
    layer.register_forward_pre_hook(lambda m, inputs: inputs[0] + 1.0)
    layer.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].item()))
    changing = layer.register_forward_hook(lambda m, inputs, out: out + 3.0)
    layer.register_forward_hook(lambda m, inputs, out: seen.append((m is layer, out.item())))
    assert layer(tt.Tensor(5.0)).item() == 15.0
    assert seen == [6.0, (True, 15.0)]
    changing.remove()
    changing.remove()
    assert layer(tt.Tensor(5.0)).item() == 12.0


def test_a_compiled_function_notices_hooks():
    """Ground truth: eager; a program captured before the hook would give the old numbers."""
    layer = nn.ReLU()
    compiled = tt.compile(lambda x: layer(x))
    x = tt.Tensor([-1.0, 2.0])
    assert compiled(x).tolist() == [0.0, 2.0]
    with layer.register_forward_hook(lambda m, inputs, out: out * 10.0):
        assert compiled(x).tolist() == [0.0, 20.0]
    assert compiled(x).tolist() == [0.0, 2.0]
