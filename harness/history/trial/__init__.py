"""How well change points are found: `python -m cllm.harness.history.trial`.

`synthetic_series` have changes that are known, `rivals` are published tools, `markdown` is the
report.
"""
