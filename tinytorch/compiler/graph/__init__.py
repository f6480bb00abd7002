"""The program as a graph, and the rules that simplify it."""
