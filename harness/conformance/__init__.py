"""Conformance: any candidate held to every check that applies to it, by `cllm check` or pytest.

`candidate` finds what is meant, `run` runs checks in processes of their own, `outcome` says what
came of them and what was expected; `command` is `cllm check`, `plugin` what pytest loads.
"""
