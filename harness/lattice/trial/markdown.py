"""`lattice.md`: whether the parts of the lattice help, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cllm.harness.bench.figures import table
from cllm.harness.lattice.trial.comparison import LEVEL, Difference, differences, losses
from cllm.harness.lattice.trial.run import (
    CONFIG,
    MEDIUM,
    PLAIN,
    SETTINGS,
    VARIANTS,
    Cost,
    Run,
    config_of,
)
from cllm.harness.lattice.trial.texts import Text
from cllm.lattice.parts import LOSS_WEIGHTS

BAR = 1.35
"""What a step with all parts may cost, on the medium configuration."""

PICTURE = "lattice.svg"

EQUAL_STEPS, EQUAL_TIME = "as many steps", "as much time"


@dataclass(frozen=True)
class Results:
    """Everything that the report tells."""

    texts: Sequence[Text]
    runs: Sequence[Run]
    steps: int
    """Of the plain model, and of every variant that is trained for as many."""
    seeds: int
    costs: Mapping[str, Cost]
    """Of a step of the model that is trained."""
    medium: Mapping[str, Cost]
    machine: Mapping[str, Any]

    def steps_in_time(self) -> dict[str, int]:
        """How many steps of each variant take as long as the plain model's."""
        return {
            variant: self.steps if variant == PLAIN else round(self.steps / cost.ratio)
            for variant, cost in self.costs.items()
        }

    def differences(self) -> dict[str, list[Difference]]:
        """By how long was trained."""
        names = [text.name for text in self.texts]
        wanted = {
            EQUAL_STEPS: dict.fromkeys(VARIANTS, self.steps),
            EQUAL_TIME: self.steps_in_time(),
        }
        return {
            name: [*differences(self.runs, names, steps, self.steps)]
            for name, steps in wanted.items()
        }


def render(results: Results) -> str:
    """The report."""
    return "\n\n".join(["# Does the lattice help?", *_parts(results)]) + "\n"


def _parts(results: Results) -> Iterator[str]:
    found = results.differences()
    yield _answer(found)
    yield f"![Validation loss of each part less the plain model's, with intervals]({PICTURE})"
    machine = results.machine
    extra = config_of("all").num_parameters - CONFIG.num_parameters
    yield (
        f"Written by `python -m cllm.harness.lattice.trial --steps {results.steps} --seeds "
        f"{results.seeds}` on {machine['usable_cores']} cores of {machine['cpu']}. The model: "
        f"V {CONFIG.vocab_size} D {CONFIG.embed_dim} L {CONFIG.num_layers} H {CONFIG.num_heads} "
        f"F {CONFIG.ff_dim}, {CONFIG.num_parameters:,} parameters, and {extra} more where "
        f"attention is on the lattice. Trained for {results.steps:,} steps of "
        f"{SETTINGS.batch_size} windows of {SETTINGS.seq_len} tokens, learning rate "
        f"{SETTINGS.learning_rate:g} with {SETTINGS.warmup} steps of warm-up and a cosine; or for "
        "as many steps as take the time of the plain model's, with a schedule of their own. The "
        f"same {results.seeds} seeds for each, which decide the first parameters and the order of "
        f"the windows. The lattice's loss has the weights {', '.join(map(str, LOSS_WEIGHTS))}; the "
        "validation loss is the cross entropy alone."
    )
    window = SETTINGS.batch_size * SETTINGS.seq_len
    yield table(
        ("text", "bytes", "tokens to train on", "times over", "tokens to validate on"),
        [
            (
                f"{text.name}: {text.told}",
                f"{text.nbytes:,}",
                f"{len(text.tokens):,}",
                f"{results.steps * window / len(text.tokens):.1f}",
                f"{len(text.validation):,}",
            )
            for text in results.texts
        ],
    )
    yield "## Validation loss, nats a token"
    yield (
        "Mean and standard deviation over the seeds; then the difference from the plain model, "
        f"seed by seed, with the interval of {LEVEL:.0%} by Student's t. *helps* and *harms* are "
        "said where an interval excludes 0 that pays for the number of differences of its table "
        "(Bonferroni)."
    )
    for name, rows in found.items():
        yield f"### {name[0].upper()}{name[1:]}"
        yield _table(results, rows)
    yield "## Cost of a step"
    yield (
        "Times the plain step's, on one thread, measured in turn: the median of the rounds and "
        f"their quartiles. With all parts the medium configuration may take {BAR} times."
    )
    config, batch_size, seq_len = MEDIUM
    medium = (
        f"medium: V{config.vocab_size} D{config.embed_dim} L{config.num_layers} "
        f"H{config.num_heads} F{config.ff_dim} B{batch_size} T{seq_len}"
    )
    yield table(
        ("", "the model trained here", medium),
        [
            (variant, _cost(results.costs[variant]), _cost(results.medium[variant]))
            for variant in VARIANTS
            if variant != PLAIN
        ],
    )


def _answer(found: Mapping[str, Sequence[Difference]]) -> str:
    """One line a part."""
    lines = []
    for variant in (v for v in VARIANTS if v != PLAIN):
        said = [
            f"{each.verdict} on {each.text} ({each.mean:+.3f})"
            for each in found[EQUAL_TIME]
            if each.variant == variant
        ]
        lines.append(f"- **{variant}** {', '.join(said)}")
    return "In nats a token, in the same time:\n\n" + "\n".join(lines)


def _table(results: Results, rows: Sequence[Difference]) -> str:
    names = [text.name for text in results.texts]
    lines = [
        [PLAIN, f"{results.steps:,}"]
        + [
            cell
            for name in names
            for cell in (_loss(losses(results.runs, name, PLAIN, results.steps)), "", "")
        ]
    ]
    for variant in dict.fromkeys(row.variant for row in rows):
        own = {row.text: row for row in rows if row.variant == variant}
        line = [variant, f"{own[names[0]].steps:,}"]
        for name in names:
            row = own[name]
            line += [
                _loss(losses(results.runs, name, variant, row.steps)),
                f"{row.mean:+.4f} ({row.low:+.4f} to {row.high:+.4f})",
                row.verdict,
            ]
        lines.append(line)
    head = ["", "steps", *(cell for name in names for cell in (name, "less plain", ""))]
    return table(head, lines)


def _loss(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def _cost(cost: Cost) -> str:
    return f"{cost.ratio:.3f} ({cost.low:.3f} to {cost.high:.3f})"
