"""How often a comparison is right: `python -m cllm.harness.compare.power`.

`slowed` is the optimized model with extra work in its step, `load` what else runs on the machine
meanwhile, `record` an hour of rounds of equal and of slowed builds, `replay` comparisons of what
was recorded, with what others would say of the same samples, `live` comparisons as a user starts
them, `markdown` the report.
"""
