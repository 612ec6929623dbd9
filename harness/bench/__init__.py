"""The benchmark: `cllm bench`.

A `contest` is one configuration and one kind of work (`task`). Each competitor is a `worker` in a
process of its own, held by `process`; `cllm.harness.peers` names them and gives their tasks. `run`
holds all contests and adds the `footprint`; `summary`, `markdown` and `charts` write it down.
"""
