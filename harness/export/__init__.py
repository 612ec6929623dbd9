"""The history in the formats of other tools: `cllm export`.

Each format is a function of runs: `openmetrics` for Prometheus, `bencher` and
`github_action_benchmark` for those who watch benchmarks, `spreadsheet` for everything else; `names`
is what results are called there.
"""
