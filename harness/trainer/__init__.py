"""The parts of a trainer that are no model.

`parts` is the candidate, `recorder` a model that notes what a trainer does with it, `hostile` are
files that no checkpoint may be read from.
"""
