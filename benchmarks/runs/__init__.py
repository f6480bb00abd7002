"""Kept runs: each file trains something a paper or a document claims, and keeps what it found.

Knows questions and settings; `benchmarks/record.py` knows how findings are written down.
"""
