"""The crystalline lattice that token ids lie on: what its parts compute with.

With i an id, n = i + 1 and p_i the i-th prime, p_0 = 2: an id is a place on a golden-angle spiral
(`spiral`), a point of the lattice Z^(primes) of its factors (`primes`), and a class of the cyclic
group of twelve (`symmetry`). `parts` says what a model has of it.

Promises: pure functions of ids, in NumPy, and SciPy where neighbours are looked for; no table grows
as V².
"""
