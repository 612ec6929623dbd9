"""Two builds held against each other: `cllm compare`.

`builds` makes an environment for each side, `session` visits both in turn, `sequential` decides
when enough was seen, `comparison` is what came out; `instructions` asks callgrind for a second
opinion.
"""
