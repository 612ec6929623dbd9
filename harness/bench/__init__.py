"""The benchmark: `cllm bench`.

A `contest` is one configuration and one kind of work (`task`). Each competitor is a `worker` in a
process of its own, held by `process`; `models` finds those that are named, `cllm.harness.peers`
names all and gives their tasks, which a `visit` times. `run` holds all contests and adds single
`operations` and the `footprint`; `flops` and `bandwidth` say what share of the machine a rate is;
`summary`, `markdown` and `charts` write it down. `parametrize` gives the same to pytest-benchmark.
"""
