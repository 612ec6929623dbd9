"""`cllm lattice`: the vocabulary of a model on the lattice, and what the model made of it.

`trial` is the experiment on whether the lattice helps.
Promises: pages and pictures without network; the same bytes for the same model.
"""
