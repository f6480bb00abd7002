"""How does a program become kernels? Capture, rewriting, fusion, layout, memory, lowering, calls.

Knows graphs and schedules, never layers or training loops. To see a training step go through every
stage: `python -m tinytorch.compiler`. To read it, in an hour, in this order (lines of code, without
docstrings and comments, in brackets); words are explained in docs/glossary.md:

    pipeline.py             [109]  the list of passes: nothing but their order
    graph/graph.py          [269]  what is compiled: primitives over values, printed as Python
    plan/stages.py          [283]  what the passes hand on, each frozen once made
    plan/layout.py          [101]  in which order the axes of each value lie
    plan/fuse.py            [381]  which operations become one kernel
    plan/materialize.py     [203]  which values get memory
    plan/lower.py           [148]  each group becomes a loop nest or a library call

Then, by what you are after:

    operations.py, calls/   which primitive is which library call, and what it asks of the plan
    graph/simplify.py       the rewrite rules; rewriter.py says what a rule is given
    plan/order.py           what is done before what; arena.py: where temporaries lie
    plan/access.py          how a value is read through movement; buffers.py: states in place
    loops/                  expressions, nests, and the three ways to write a nest as code
    plan/launch.py, run/    what is kept on disk, and how it runs
    record/, compile.py     how a call of Python becomes a graph, and when the graph still holds
"""
