"""Detection: whether the harness catches what it is for, shown on planted faults.

`matrix` runs the catalogue of `cllm.harness.faults`; `markdown` and `page` write it down, and
`command` is `cllm check --faults`.
"""
