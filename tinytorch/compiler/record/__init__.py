"""From a Python call to a graph: recording it, and knowing when the recording still holds.

Knows the user's objects, Tensors and the graph that a recording makes; never passes or programs.
"""
