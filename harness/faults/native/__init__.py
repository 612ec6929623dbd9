"""Planted faults that only compiled code can have.

`defects` is the extension; `cllm.harness.faults.races` makes models of its races, `memory` of what
only sanitizers see.
"""
