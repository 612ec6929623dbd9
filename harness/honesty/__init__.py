"""What keeps a candidate from deceiving the harness.

`seal` notices what was replaced, `sealed` is the seal of every process that judges, `clocks` holds
Python's clocks against the kernel's, `unobserved` runs a candidate where nothing of the harness
is to be seen.
"""
