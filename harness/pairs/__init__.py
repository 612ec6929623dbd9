"""Pairs: a function and the function that it is held against.

`pair` is what a pair is, `cases` draws and judges its cases, `unfit` are arrays that it must
refuse, `sparse` arrays of billions of elements; `table` holds the operations of both our models.
"""
