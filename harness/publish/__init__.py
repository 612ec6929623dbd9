"""What was measured, as a page, for a pull request, and for machines: `cllm report`.

`source` reads and checks the file, `schema` says what has to be in it. A report is one document for
all its forms: `comparison`, `performance` and `verification` make it; `page`, `summary` and `junit`
show it; `charts` and `roofline` draw, `words` says figures.
"""
