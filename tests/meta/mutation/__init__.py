"""Mutation testing of the optimized kernels: are the checks able to see a wrong one?

Promises: small mistakes (another operator, a bound off by one, a term or a statement left out) are
made one at a time in the sources of `optimized/`, all in one build that chooses at run time, and
each is held against the harness's checks until the first that fails.
Leaves out: mistakes that were planted by hand (`cllm.harness.faults`).

    python -m mutation --help
"""
