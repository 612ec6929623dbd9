"""What the harness shows: progress on stderr, verdicts in columns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from tqdm import tqdm

from cllm.cli.progress import say

HEAD = ("check", "verdict", "evidence")


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = HEAD) -> str:
    """Columns, the last as wide as it is."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
    padded = [[f"{c:{w}}" for c, w in zip(line, widths, strict=False)] for line in lines]
    return "\n".join(
        "  ".join([*cells, line[-1]]) for cells, line in zip(padded, lines, strict=True)
    )


class Display:
    """Progress on stderr: a bar for each stage, or a line where stderr is no terminal."""

    def __init__(self) -> None:
        self._stage, self._bar, self._start = "", _bar("", 0), 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end("stopped" if error else "done")

    def show(self, task: str, done: int, total: int) -> None:
        """How much of a task is done; what follows a colon is a detail of the stage before it."""
        stage, _, detail = task.partition(": ")
        if stage != self._stage:
            self._end("done")
            self._stage, self._bar, self._start = stage, _bar(stage, total), time.monotonic()
        self._bar.total = total
        self._bar.set_postfix_str(detail, refresh=False)
        self._bar.update(done - self._bar.n)

    def _end(self, how: str) -> None:
        self._bar.close()
        if self._stage and self._bar.disable:
            say(f"{self._stage}: {how} after {time.monotonic() - self._start:.0f} s")


def _bar(stage: str, total: int) -> tqdm[Any]:
    form = "{desc:<22} {percentage:3.0f}% |{bar:30}| {elapsed}{postfix}"
    return tqdm(desc=stage, total=total, bar_format=form, disable=None if stage else True)
