"""How often a comparison is right: `python -m cllm.harness.compare.power`.

`slowed` is the optimized model with extra work in its step, `load` what else runs on the machine
meanwhile, `record` an hour of rounds of equal and of slowed builds, `replay` comparisons over
stretches of it, `rivals` what else one could do with the same samples, `markdown` the report.
"""
