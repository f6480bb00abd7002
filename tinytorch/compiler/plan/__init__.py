"""From a graph to tasks over memory: the passes."""
