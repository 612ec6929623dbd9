"""Pages from templates."""

from __future__ import annotations

import jinja2


def environment(*packages: str) -> jinja2.Environment:
    """Of the templates that these packages bring along, the first that has one, and the harness's.

    What is put in is escaped; what a template asks for and is not given raises `UndefinedError`.
    """
    found = [jinja2.PackageLoader(package) for package in (*packages, "cllm.harness")]
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(found),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
