"""From a Python call to a graph: recording it, and knowing when the recording still holds.

Knows the user's objects, Tensors and the graph that a recording makes; never passes or programs.
What the rest of the compiler uses is `recording.record`, which gives a Recording with its graph,
`guards.Guards`, which says whether it still holds, and `signature`, which tells calls apart. In the
order in which they build on each other:

    objects         what an object is and holds, told without running the user's code
    guards          one reading of Python and what it gave; all of them checked before each run
    signature       arguments and results as trees: what is data, what makes another program
    readings        what one call reads and changes: items, contents, attributes
    frames          a function is seen instruction by instruction, with what lies on its stack
    instructions    what each instruction and each function of a library reads and changes
    watch           all of this around one call of the user's function
    recorder        the interpreter for which operations become nodes
    recording       the two at once, and where the ends of the graph belong in Python
"""
