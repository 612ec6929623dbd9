"""One import, timed in a process of its own: `python -P import_time.py MODULE`.

Promises: the module, or the source file, is found as `find_model` finds it, where the current
folder is searched last; nothing of cllm or NumPy is imported before. The reply is one line.
"""

import importlib
import importlib.util
import os
import sys
import time


def seconds(module: str) -> float:
    """Of importing a module, or a path that ends in .py."""
    path = os.path.abspath(module)  # noqa: PTH100  (pathlib would be imported before)
    is_file = module.endswith(".py")
    sys.path.append(os.path.dirname(path) if is_file else os.getcwd())  # noqa: PTH109, PTH120
    start = time.perf_counter()
    if is_file:
        spec = importlib.util.spec_from_file_location(path, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no Python source file")
        sys.modules[path] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[path])
    else:
        importlib.import_module(module)
    return time.perf_counter() - start


if __name__ == "__main__":
    reply = os.dup(1)
    os.dup2(2, 1)  # what is printed goes to standard error
    os.write(reply, b'{"seconds": %r}\n' % seconds(sys.argv[1]))
