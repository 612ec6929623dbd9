"""What was measured, kept over years: `cllm history`.

`record` says what a run and a result are; `schema` and `store` keep them in any database that
SQLAlchemy speaks to; `sources` reads the files that runs come in; `changepoints` finds where a
series changed.
"""
