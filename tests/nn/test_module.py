"""module.py: the tree, its names, modes and state; hooks and their order; lists of modules."""

import copy
import pickle
from collections import deque

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import CompileError, DTypeError, SettingError, ShapeError
from tinytorch.base.settings import MODES, STRUCTURE
from tinytorch.nn.module import evaluating


class Part(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter([1.0, 2.0])
        self.register_buffer("seen", tt.zeros(1))
        self.register_buffer("scratch", tt.zeros(1), persistent=False)
        self.plain = tt.zeros(3)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Part()
        self.many = [Part(), Part()]
        self.again = self.first


def test_names_follow_attributes_and_lists():
    """Ground truth: PyTorch's naming; a module met twice is named once."""
    names = [name for name, _ in Whole().named_parameters()]
    assert names == ["first.weight", "many.0.weight", "many.1.weight"]
    assert [n for n, _ in Whole().named_modules()] == ["", "first", "many.0", "many.1"]
    assert [n for n, _ in Whole().named_children()] == ["first", "many.0", "many.1", "again"]
    assert sum(1 for _ in Whole().children()) == 4


def test_buffers_are_saved_unless_declared_otherwise():
    """Ground truth: the arguments of register_buffer; a plain Tensor is neither."""
    part = Part()
    assert [n for n, _ in part.named_buffers()] == ["seen", "scratch"]
    assert sum(1 for _ in part.buffers()) == 2
    assert list(part.state_dict()) == ["weight", "seen"]


def test_shared_weights_are_one_parameter_under_two_names():
    """Ground truth: PyTorch's state_dict of tied weights."""
    whole = Whole()
    assert sum(1 for _ in whole.parameters()) == 3
    assert {"first.weight", "again.weight"} <= set(whole.state_dict())


def test_modes_reach_the_whole_tree_and_are_noticed_once():
    """Ground truth: the number of all modes moves only when one changes, and returns with it."""
    whole = Whole()
    before, structure = MODES.value, STRUCTURE.value
    assert whole.eval() is whole
    assert not any(m.training for m in whole.modules())
    moved = MODES.value
    assert moved != before
    whole.eval()
    assert MODES.value == moved
    whole.train()
    assert all(m.training for m in whole.modules())
    assert MODES.value == before and STRUCTURE.value == structure


def test_a_mode_that_returns_finds_its_program():
    """Ground truth: eager mode; two modes are two recordings, however often they alternate, and
    what changes a Module besides is still noticed in both."""
    tt.manual_seed(0)
    layer = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    compiled = tt.compile(lambda x: layer(x))
    x = tt.rand(5, 3)
    for _ in range(3):
        with tt.no_grad():
            trained = compiled(x)
            assert abs(trained.mean(axis=0)).max().item() < 1e-5  # what batch norm does to a batch
            layer.eval()
            assert compiled(x).allclose(layer(x), atol=1e-6)
            layer.train()
    assert compiled.captures == 2
    layer[0] = nn.Linear(3, 4, bias=False)
    layer.eval()
    assert compiled(x).allclose(layer(x), atol=1e-6) and compiled.captures == 3


def test_a_replaced_attribute_is_noticed():
    """Ground truth: a compiled function has read the old value."""
    layer = nn.Dropout(0.5)
    before = STRUCTURE.value
    layer.p = 0.25
    assert STRUCTURE.value > before


def test_a_state_dict_is_live():
    """PyTorch: it shows the module's memory, in both directions; a deep copy keeps the moment."""
    part = Part()
    state = part.state_dict()
    with tt.no_grad():
        part.weight.assign_(tt.Tensor([5.0, 5.0]))
    assert state["weight"].tolist() == [5.0, 5.0]
    kept, clones = copy.deepcopy(state), {n: x.clone() for n, x in state.items()}
    state["weight"].copy_(tt.Tensor([3.0, 4.0]))
    assert part.weight.tolist() == [3.0, 4.0] and part.weight.requires_grad
    assert kept["weight"].tolist() == clones["weight"].tolist() == [5.0, 5.0]
    part.load_state_dict(kept)
    assert part.weight.tolist() == state["weight"].tolist() == [5.0, 5.0]


def test_loading_says_what_is_missing_unknown_or_misshapen_and_changes_nothing():
    """Ground truth: names and shapes of Part."""
    part = Part()
    good = {"weight": np.array([7.0, 8.0]), "seen": np.zeros(1)}
    with pytest.raises(
        SettingError, match=r"missing: weight; unknown: weigth[\s\S]*rename 'weigth' to 'weight'"
    ):
        part.load_state_dict({"weigth": good["weight"], "seen": good["seen"]})
    with pytest.raises(ShapeError, match="'seen' has another shape"):
        part.load_state_dict({**good, "seen": np.zeros(2)})
    with pytest.raises(DTypeError, match="another kind of number"):
        part.load_state_dict({**good, "seen": np.zeros(1, np.int64)})
    assert part.weight.tolist() == [1.0, 2.0]
    assert part.load_state_dict({"weight": good["weight"], "extra": 1}, strict=False) == (
        ["seen"],
        ["extra"],
    )
    assert part.weight.tolist() == [7.0, 8.0]
    assert part.weight.dtype is tt.float32


def test_to_converts_floats_and_keeps_sharing():
    """Ground truth: its docstring."""
    whole = Whole().to("float64")
    assert whole.first.weight.dtype is tt.float64
    assert whole.first is whole.again
    norm = nn.BatchNorm2d(2).to(tt.float64)
    assert norm.num_batches_tracked.dtype is tt.int64
    assert norm.running_mean.dtype is tt.float64


def test_to_keeps_the_objects_frozen_or_not_and_their_gradients():
    """Ground truth: PyTorch: the parameters are the same objects (porting.md, C8)."""
    layer = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    layer[0].weight.requires_grad_(False)
    layer(tt.ones(4, 2)).sum().backward()
    before = {n: id(t) for n, t in (*layer.named_parameters(), *layer.named_buffers())}
    numbers = {n: t.numpy().copy() for n, t in layer.state_dict().items()}
    gradient = layer[1].bias.grad.numpy().copy()
    assert layer.to(tt.float64) is layer
    after = {n: id(t) for n, t in (*layer.named_parameters(), *layer.named_buffers())}
    assert after == before and not layer[0].weight.requires_grad and layer[0].bias.requires_grad
    assert layer[0].weight.grad is None
    assert layer[1].bias.grad.dtype is tt.float64
    assert np.array_equal(layer[1].bias.grad.numpy(), gradient)
    for name, tensor in layer.state_dict().items():
        assert tensor.dtype is (tt.int64 if name.endswith("tracked") else tt.float64)
        assert np.array_equal(tensor.numpy(), numbers[name])
    layer(tt.ones(4, 2, dtype="float64")).sum().backward()  # the gradients add up in the new type
    assert layer[1].bias.grad.tolist() == [8.0, 8.0, 8.0]
    with pytest.raises(SettingError, match="weights are floating-point numbers"):
        layer.to("int64")
    compiled = tt.compile(lambda x: layer.to("float32")(x))
    with pytest.raises(CompileError, match="number type"):
        compiled(tt.ones(4, 2))


def test_a_compiled_step_notices_another_number_type():
    """Ground truth: eager; float64 has numbers that float32 has not."""
    layer = nn.Linear(1, 1)
    compiled = tt.compile(lambda x: layer(x))
    for dtype in ("float32", "float64", "float32"):
        layer.to(dtype)
        x = tt.full((1, 1), 1.0 + 2.0**-40, dtype=dtype)
        assert compiled(x).dtype.name == dtype
        assert compiled(x).item() == pytest.approx(layer(x).item(), rel=1e-6)


def test_to_a_device_was_read_as_a_number_type():
    """Ground truth: there is one device; a program for PyTorch names it in three ways."""
    layer = nn.Linear(2, 2)
    weight = layer.weight
    assert layer.to("cpu").to(device="cpu").to() is layer and layer.weight is weight
    assert layer.to("cpu", dtype=tt.float64).weight.dtype is tt.float64
    with pytest.raises(SettingError, match="no such device"):
        layer.to("cuda:0")


def test_zero_grad_and_requires_grad():
    """Ground truth: their docstrings."""
    layer = nn.Linear(2, 2)
    layer(tt.ones(1, 2)).sum().backward()
    layer.zero_grad()
    assert all(p.grad is None for p in layer.parameters())
    layer.requires_grad_(False)
    assert not any(p.requires_grad for p in layer.parameters())


def test_apply_visits_children_first():
    """Ground truth: its docstring."""
    seen = []
    nn.Sequential(nn.Linear(1, 1), nn.ReLU()).apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Sequential"]


def test_repr_is_a_tree():
    """Ground truth: written by hand."""
    net = nn.Sequential(nn.Linear(4, 3), tt.tanh, nn.Sequential(nn.Dropout(0.1)))
    assert repr(net) == (
        "Sequential(\n  (0): Linear(4, 3)\n  (1): tanh\n"
        "  (2): Sequential(\n    (0): Dropout(p=0.1)\n  )\n)"
    )
    assert repr(Part()) == "Part()"


def test_a_module_without_forward_says_so():
    """Ground truth: the class's name is in the message."""
    with pytest.raises(NotImplementedError, match="Part has no forward"):
        Part()(1)


def test_arrays_are_inputs_too():
    """Ground truth: the same layer on a Tensor (ruling C6)."""
    layer, x = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2)), np.ones((4, 3), np.float32)
    assert np.array_equal(layer(x).numpy(), layer(tt.Tensor(x)).numpy())


def test_a_part_is_found_by_its_path():
    """Ground truth: the attributes."""
    whole = Whole()
    assert whole.get_submodule("many.1") is whole.many[1]
    assert whole.get_submodule("") is whole
    with pytest.raises(SettingError, match=r"no such part[\s\S]*'first', 'many.0'"):
        whole.get_submodule("many.2")


class Held(nn.Module):
    """Parts in every container, and one by one."""

    def __init__(self):
        self.scales = [nn.Parameter([1.0]), nn.Parameter([2.0])]
        self.pair = (nn.Parameter([3.0]), "text")
        self.by_name = {"a": nn.Linear(1, 1, bias=False), "b": nn.Parameter([4.0]), 3: None}

    def forward(self, x):
        return self.by_name["a"](x) * self.scales[0] * self.scales[1] * self.pair[0]


def test_lists_tuples_and_dicts_are_part_of_the_tree():
    """Ground truth: the attributes; nothing that is trained may be missed in silence."""
    held = Held()
    names = [name for name, _ in held.named_parameters()]
    assert names == ["scales.0", "scales.1", "pair.0", "by_name.b", "by_name.a.weight"]
    held.to("float64")
    assert {p.dtype for p in held.parameters()} == {tt.float64}
    assert held.pair[1] == "text" and held.by_name[3] is None
    held.load_state_dict({name: np.full(1, 2.0) for name in names[:4]} | {names[4]: [[2.0]]})
    assert held(tt.ones(1, 1, dtype="float64")).item() == 16.0


class Deep(nn.Module):
    """Parts in containers of containers."""

    def __init__(self):
        self.blocks = [(nn.Linear(2, 2), nn.LayerNorm(2)), (nn.Linear(2, 2), nn.LayerNorm(2))]
        self.heads = {"a": [nn.Linear(2, 1)], "b": deque([{"c": (nn.Parameter([1.0]),)}])}
        self.round = [nn.Parameter([2.0])]
        self.round.append(self.round)  # a circle ends

    def forward(self, x):
        for linear, norm in self.blocks:
            x = norm(linear(x))
        return self.heads["a"][0](x) * self.heads["b"][0]["c"][0] * self.round[0]


def test_containers_of_any_depth_are_part_of_the_tree():
    """Ground truth: the attributes: a plain list was part of it, a list of tuples was nothing."""
    deep = Deep()
    names = [name for name, _ in deep.named_parameters()]
    assert names == [
        "heads.b.0.c.0", "round.0",
        "blocks.0.0.weight", "blocks.0.0.bias", "blocks.0.1.weight", "blocks.0.1.bias",
        "blocks.1.0.weight", "blocks.1.0.bias", "blocks.1.1.weight", "blocks.1.1.bias",
        "heads.a.0.weight", "heads.a.0.bias",
    ]  # fmt: skip
    assert set(deep.state_dict()) == set(names)
    deep.eval().to("float64")
    assert not deep.blocks[1][1].training and deep.blocks[1][1].weight.dtype is tt.float64
    deep(tt.ones(3, 2, dtype="float64")).sum().backward()
    assert all(p.grad is not None for p in deep.parameters())
    listed = nn.ModuleList([(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2)])
    assert [n for n, _ in listed.named_children()] == ["0.0", "0.1", "1"]
    assert deep.get_submodule("blocks.0.1") is deep.blocks[0][1]


def test_a_container_with_attributes_of_its_own():
    """Ground truth: PyTorch: parts and attributes are both part of the tree."""

    class Headed(nn.ModuleList):
        def __init__(self):
            super().__init__([nn.Linear(1, 1, bias=False)])
            self.head = nn.Linear(1, 1, bias=False)
            self.scale = nn.Parameter([1.0])

    assert [n for n, _ in Headed().named_parameters()] == ["scale", "0.weight", "head.weight"]


def test_parts_in_a_set_are_refused_in_words():
    """Ground truth: a set has no order, so its parts have no names that a file could keep."""
    part = Part()
    with pytest.raises(SettingError, match="parts in a set have no order"):
        part.more = {nn.Linear(1, 1)}
    with pytest.raises(SettingError, match="parts in a set have no order"):
        part.more = frozenset([nn.Parameter([1.0])])
    part.words = {"a", "b"}
    part.more = [{"deep": frozenset()}]
    part.more[0]["deep"] = {nn.Linear(1, 1)}  # put there later, at any depth
    with pytest.raises(SettingError, match=r"more.0.deep: parts in a set have no order"):
        list(part.parameters())


def test_two_parts_under_one_name_are_refused():
    """Ground truth: a state dictionary has one place for a name; one of them would be lost."""

    class Named(nn.Module):
        def __init__(self, parts):
            self.parts = parts

    for parts in (
        {0: nn.Linear(1, 1), "0": nn.Linear(1, 1)},
        {"a": {"b": nn.Linear(1, 1)}, "a.b": nn.Linear(1, 1)},
    ):
        for use in (lambda m: m.state_dict(), lambda m: m.load_state_dict({})):
            with pytest.raises(SettingError, match="two parts have one name"):
                use(Named(parts))
    shared = nn.Linear(1, 1)
    assert len(Named({"a": shared, "b": shared}).state_dict()) == 4


def test_values_of_a_dict_are_parts():
    """Ground truth: their order is the dict's."""
    part = Part()
    part.more = {"a": nn.Linear(2, 1), "b": nn.Linear(2, 1)}.values()
    assert "more.1.weight" in part.state_dict()


def test_a_mode_is_on_or_off():
    """Ground truth: PyTorch refuses it too; a module as mode made a circle."""
    for mode in (None, 1, nn.Linear(1, 1), "train"):
        with pytest.raises(SettingError, match="a mode is on or off"):
            Part().train(mode)


def test_names_from_files_end_no_line():
    """Ground truth: a name cannot write lines of a message."""
    with pytest.raises(SettingError) as caught:
        nn.Linear(1, 1).load_state_dict({"w\n  fix:  run this": np.zeros(1)})
    assert r"w\n  fix:  run this" in str(caught.value)


def test_gradients_become_zeros_where_asked():
    """Ground truth: PyTorch: None, or zeros where there was a gradient."""
    layer = nn.Linear(2, 1)
    layer(tt.ones(1, 2)).sum().backward()
    layer.bias.grad = None
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0, 0]] and layer.bias.grad is None
    layer.zero_grad()
    assert layer.weight.grad is None


def test_a_state_without_the_count_of_batches_loads():
    """Ground truth: PyTorch loads it strictly: published networks have none (outside-1.md)."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2)))
    net(tt.ones(2, 1, 4, 4))
    state = {n: t.numpy() + 1 for n, t in net.state_dict().items() if not n.endswith("tracked")}
    assert net.load_state_dict(state) == ([], [])
    assert net[1].num_batches_tracked.item() == 1  # stays
    assert np.array_equal(net[1].running_var.numpy(), state["1.running_var"])
    with pytest.raises(SettingError, match=r"missing: 1.running_var"):
        net.load_state_dict({n: x for n, x in state.items() if n != "1.running_var"})
    state["1.num_batches_tracked"] = np.array(7)
    net.load_state_dict(state)
    assert net[1].num_batches_tracked.item() == 7


def test_what_shadows_the_class_or_goes_away_is_noticed():
    """Ground truth: the structure counter: a program captured before would be the wrong one."""
    layer = nn.ReLU()
    compiled = tt.compile(lambda x: layer(x))
    x = tt.Tensor([-1.0, 2.0])
    assert compiled(x).tolist() == [0.0, 2.0]
    layer.forward = lambda x: x * 3.0
    assert compiled(x).tolist() == [-3.0, 6.0]
    del layer.forward
    assert compiled(x).tolist() == [0.0, 2.0]
    dropout = nn.Dropout(1.0)
    compiled = tt.compile(lambda x: dropout(x))
    assert compiled(x).tolist() == [0.0, 0.0]
    dropout.training = False
    assert compiled(x).tolist() == [-1.0, 2.0]


def test_building_a_module_recompiles_nothing():
    """Ground truth: the structure counter."""
    before = STRUCTURE.value
    nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.MLP([2, 3]), nn.PReLU())
    assert STRUCTURE.value == before


def test_a_copy_has_weights_of_its_own():
    """Ground truth: copy.deepcopy and pickle; weights tied in the original are tied in the copy."""
    whole = Whole()
    for copied in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert copied.first is copied.again
        with tt.no_grad():
            copied.first.weight.assign_(tt.Tensor([9.0, 9.0]))
        assert whole.first.weight.tolist() == [1.0, 2.0]
        assert copied.first.weight.requires_grad


def test_a_list_and_arguments_mean_the_same():
    """Ground truth: equal names."""
    parts = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)]
    assert list(nn.Sequential(parts).state_dict()) == list(nn.Sequential(*parts).state_dict())


def test_parts_are_called_in_order():
    """Closed form: (1 + 1) * 3."""
    net = nn.Sequential(lambda x: x + 1.0, lambda x: x * 3.0)
    assert net(tt.Tensor([1.0])).item() == 6.0


def test_what_cannot_be_called_is_named():
    """Ground truth: part 1 is a number."""
    with pytest.raises(SettingError, match="part 1 cannot be called"):
        nn.Sequential(nn.ReLU(), 3)


def test_lists_index_slice_and_grow():
    """Ground truth: Python's lists."""
    blocks = nn.ModuleList([nn.Linear(1, 1)])
    blocks.append(nn.ReLU())
    assert len(blocks) == 2 and isinstance(blocks[-1], nn.ReLU)
    assert [type(b).__name__ for b in blocks] == ["Linear", "ReLU"]
    assert isinstance(blocks[:1], nn.ModuleList) and len(blocks[:1]) == 1


def test_lists_insert_replace_and_extend_and_programs_notice():
    """Closed form: what the parts compute in their new order."""
    net = nn.Sequential(lambda x: x + 1.0)
    compiled = tt.compile(lambda x: net(x))
    x = tt.Tensor([1.0])
    assert compiled(x).item() == 2.0
    assert net.extend([lambda x: x * 3.0]) is net
    assert compiled(x).item() == 6.0
    net.insert(0, lambda x: x * 10.0)
    assert compiled(x).item() == 33.0
    net[0] = lambda x: x * 0.0
    assert compiled(x).item() == 3.0


def test_modules_by_name():
    """Ground truth: Python's dict; names of weights as in PyTorch."""
    heads = nn.ModuleDict({"mean": nn.Linear(2, 1, bias=False)})
    heads["spread"] = nn.ReLU()
    assert list(heads) == list(heads.keys()) == ["mean", "spread"] and len(heads) == 2
    assert "mean" in heads and [m for _, m in heads.items()] == list(heads.values())
    assert list(heads.state_dict()) == ["mean.weight"]
    assert [name for name, _ in heads.named_children()] == ["mean", "spread"]
    del heads["mean"]
    assert list(heads) == ["spread"]
    with pytest.raises(KeyError):
        del heads["mean"]
    with pytest.raises(SettingError, match="this cannot be a part"):
        heads["a.b"] = nn.ReLU()


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


def test_a_mode_for_a_moment_leaves_each_part_as_it_was():
    """Invariant: modes of all parts; a compiled function has the program of the mode afterwards,
    also when the mode changes later."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(1.0))
    model[0].eval()
    compiled, x = tt.compile(lambda x: model(x)), tt.ones(1, 2)
    assert not compiled(x).numpy().any()
    with evaluating(model):
        assert not any(m.training for m in model.modules())
        assert compiled(x).numpy().any()
    assert [m.training for m in model.modules()] == [True, False, True]
    assert not compiled(x).numpy().any()
    model.eval()
    assert compiled(x).numpy().any()
