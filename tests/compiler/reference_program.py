"""A program that runs its graph by NumPy: what Call is tested with apart from kernels."""

from tinytorch.compiler.graph.graph import step_reference
from tinytorch.compiler.run.program import array_at
from tinytorch.compiler.run.results import ResultMemory


class ReferenceProgram:
    """Same interface as compiler.program.Program."""

    host_calls = ()

    def __init__(self, graph):
        self.graph, self.same, self.idle = graph, list(range(len(graph.results))), {}

    def runner(self, threads):
        return ReferenceRunner(self.graph)


class ReferenceRunner:
    def __init__(self, graph):
        self.graph, self.states, self.owner, self.program = graph, [], None, None
        self.results = [ResultMemory(v.shape, v.dtype) for v in graph.results]

    def bind_states(self, addresses):
        self.states = list(addresses)

    def run(self, arguments, results, frozen=None):
        graph = self.graph
        where = dict(zip(graph.arguments, arguments, strict=True))
        where |= dict(zip(graph.states, self.states, strict=True))
        memory = {v: array_at(a, v.shape, v.dtype.storage) for v, a in where.items()}
        made, new = step_reference(graph, memory)
        new = {v: array.copy() for v, array in new.items()}
        for v, array, address in zip(graph.results, made, results, strict=True):
            array_at(address, v.shape, v.dtype.storage)[...] = array
        for v, array in new.items():
            memory[v][...] = array
