"""What was measured, kept over years: `cllm history`.

`record` says what a run and a result are. `store` keeps them in any database that SQLAlchemy speaks
to, by `database`, `schema`, `insertion`, `filters` and `selection`. `sources` reads the files that
runs come in, `document` and `pytest_benchmark` two of their formats. `changepoints` finds where a
series changed (by the statistic of `mann_whitney`), `changes` between which commits, `shifts`
whether for the worse; `trial` and `scale` measure both.
"""
