"""A second witness: the machine instructions of a training step, counted by valgrind's callgrind.

Promises: the same build gives the same count, however busy the machine is: to the instruction, but
for what a candidate does differently when it looks at a clock (in the optimized model, 7).
What keeps it so: one thread, a fixed hash seed, an environment of nothing else, no garbage
collection, the same batch at the same parameters, counting between two requests around the step
alone, and the median of several steps, as the first finds everything cold. The interpreter's own
instructions are left out: they depend on where objects happen to lie (a collision in its cache of
methods costs a thousand a step), and a change of any source or of a folder's name moves them.
Leaves out: what `BLIND` says; other processors than x86-64, whose requests are written differently.
"""

from __future__ import annotations

import platform
import re
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from cllm.harness.bench.configurations import Configuration
from cllm.harness.bench.task import Kind
from cllm.harness.compare.comparison import ELSEWHERE, Entry, Instructions
from cllm.harness.compare.process import Launch
from cllm.harness.words import ending

GATE = 0.001
"""The share by which instructions have to differ to be called more or fewer."""

LIMIT = 600.0
"""Seconds that one count may take."""

COUNTED_STEPS = 5
"""Of which the median counts."""

CALLGRIND_FACTOR = 5000
"""About how many times as long as alone a step takes under callgrind, which takes vectors apart."""

COUNTING_SECONDS = 120.0
"""What counting on one side may take; larger steps are not counted."""

BLIND = (
    "Instructions are counted on one thread of a processor as valgrind simulates it: without "
    "AVX-512, and regardless of how long an instruction takes; those of the Python interpreter are "
    "left out. They show neither memory bandwidth nor caches nor threads."
)

INTERPRETER = re.compile(r"(lib)?python3[^/]*")
"""The file that the interpreter's code lies in."""

ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""All of it."""

WORKER = """
import ctypes, gc, mmap, sys

import numpy as np

from cllm import Config, Update
from cllm.layout import initialize
from cllm.registry import find_model

# A function of one argument that hands valgrind a request (valgrind.h): outside of it, it does
# nothing. mov rax, rdi; xor edx, edx; rol rdi by 3, 13, 61 and 51; xchg rbx, rbx; mov rax, rdx; ret
CODE = "4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3"
page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex(CODE))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
request = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)(address)
base = ord("C") << 24 | ord("T") << 16
dump, start, stop = ((ctypes.c_size_t * 6)(base + number) for number in (0, 4, 5))

candidate, *numbers = sys.argv[1:]
V, D, L, H, F, B, T, seed, steps = map(int, numbers)
generator = np.random.default_rng(seed)
config = Config(V, D, L, H, F)
model = find_model(candidate).create(config, B, T, initialize(config, generator), threads=1)
tokens, targets = generator.integers(0, V, (2, B, T), np.int32)
update = Update(1, 0.0)  # a learning rate of 0: each step finds the same parameters
gc.disable()
for _ in range(steps):
    request(start)
    model.step(tokens, targets, update)
    request(stop)
    request(dump)
"""
"""What runs under valgrind, in an environment of the past too: on the public interface alone."""


class NotCounted(Exception):
    """The instructions could not be counted; says why in one line."""


def add_instructions(
    entry: Entry, configuration: Configuration, base: Launch, head: Launch, seed: int
) -> Entry:
    """The entry with what callgrind counts on both sides, or why it does not."""
    if entry.kind != Kind.STEP or entry.threads > 1:
        return replace(entry, instructions_reason=ELSEWHERE)
    if entry.ratio is None:
        return replace(entry, instructions_reason="not measured either")
    expected = CALLGRIND_FACTOR * COUNTED_STEPS / statistics.median(entry.base)
    if expected > COUNTING_SECONDS:
        return replace(entry, instructions_reason=f"counting would take about {expected:.0f} s")
    try:
        counts = [
            count_instructions(
                Path(side.python), side.candidate, configuration, seed=seed, steps=COUNTED_STEPS
            )
            for side in (base, head)
        ]
    except NotCounted as error:
        return replace(entry, instructions_reason=str(error))
    return replace(entry, instructions=witness(*counts))


def count_instructions(
    python: Path,
    candidate: str,
    configuration: Configuration,
    *,
    seed: int,
    steps: int,
    limit: float = LIMIT,
) -> int:
    """The median number of instructions of `steps` equal training steps, without the interpreter's.

    Five steps are enough; one is where it takes long. `python` is the interpreter of an environment
    that cllm is installed in; `candidate` is found there, or from the current folder. Valgrind
    takes vectors apart: a step of the optimized model takes about a thousand times as long as it
    does alone. Raises `NotCounted` where valgrind is missing, the worker fails, or all of it takes
    longer than `limit` seconds.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise NotCounted("valgrind is not installed")
    if platform.machine() != "x86_64":
        raise NotCounted(f"instructions are counted on x86_64 alone: this is {platform.machine()}")
    setting = configuration.setting
    config = setting.config
    sizes = [config.vocab_size, config.embed_dim, config.num_layers, config.num_heads]
    sizes += [config.ff_dim, setting.batch_size, setting.seq_len]
    with tempfile.TemporaryDirectory() as folder:
        output, worker = Path(folder) / "counts", Path(folder) / "worker.py"
        worker.write_text(WORKER)
        command = [
            *(valgrind, "--tool=callgrind", "--instr-atstart=no", "--combine-dumps=yes"),
            *("--compress-strings=no", f"--callgrind-out-file={output}"),
            *(str(python), "-P", str(worker), candidate, *map(str, (*sizes, seed, steps))),
        ]
        _run(command, limit)
        counts = _read(output)[:steps]  # what follows is the end of the program
    if len(counts) < steps or not all(counts):
        raise NotCounted(f"callgrind counted {sum(map(bool, counts))} of {steps} steps")
    return statistics.median_low(counts)


def witness(base: int, head: int) -> Instructions:
    """What two counts say, at the gate."""
    ratio = head / base
    verdict = "more" if ratio > 1 + GATE else "fewer" if ratio < 1 - GATE else "same"
    return Instructions(base, head, ratio, verdict)


def _run(command: list[str], limit: float) -> None:
    """Run it to its end."""
    try:
        done = subprocess.run(
            command, env=ENVIRONMENT, capture_output=True, timeout=limit, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotCounted(f"took longer than {limit:.0f} s") from None
    except OSError as error:
        raise NotCounted(f"valgrind cannot be run: {error}") from error
    if done.returncode:
        raise NotCounted(_why(done.returncode, done.stderr))


def _read(path: Path) -> list[int]:
    """Instructions of each dump outside of the interpreter, from callgrind's format.

    There `ob=` names the file that the following lines belong to; a line that begins with a
    position holds what was counted there, except after `calls=`, where it is the callee's.
    """
    counts: list[int] = []
    if not path.exists():
        return counts
    counted = True
    with path.open(errors="replace") as lines:
        for line in lines:
            if line.startswith("part: "):
                counts.append(0)
            elif line.startswith("ob="):
                file = line[len("ob=") :].strip().rpartition("/")[2]
                counted = not INTERPRETER.fullmatch(file)
            elif line.startswith("calls="):
                next(lines)
            elif counted and counts and line[0] in "0123456789+-*":
                counts[-1] += int(line.split()[1])
    return counts


def _why(status: int, errors: str) -> str:
    """The worker's last words, without valgrind's own."""
    lines = [line for line in errors.splitlines() if line.strip() and not line.startswith("==")]
    return f"the worker ended {ending(status)}" + (f": {lines[-1].strip()}" if lines else "")
