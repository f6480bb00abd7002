"""Measurements against other frameworks, each reproduced by one command.

    python -m benchmarks mlp             a training step of a small network
    python -m benchmarks all             every case

Knows both sides by their public interfaces; the package never imports it.
"""
