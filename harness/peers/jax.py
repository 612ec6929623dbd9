"""CLLM's network in JAX, as its users would write it.

Promises: `jnp`, `value_and_grad`, Adam by hand, `jit` with donated buffers, `lax.scan` over many
batches and over the tokens of a generation. Imported only in a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from cllm.config import Config
from cllm.harness.bench.task import Kind, Task
from cllm.harness.bench.workload import LEARNING_RATE, Workload
from cllm.layout import tensor_views
from cllm.positions import sinusoidal_positions

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

Tree = dict[str, Any]


def build(kind: Kind, workload: Workload, variant: str, threads: int) -> Task:
    """The task; `threads` are those of the process."""
    if kind is Kind.STEP:
        return Training(workload, jax.jit(train_step(workload), donate_argnums=0))
    if kind is Kind.STEPS:

        @partial(jax.jit, donate_argnums=0)
        def steps(state: Tree, batches: tuple[Any, Any]) -> tuple[Tree, Any]:
            after: tuple[Tree, Any] = jax.lax.scan(train_step(workload), state, batches)
            return after

        return Training(workload, steps, workload.calls_at_once)
    return Generation(workload, sampled=kind is Kind.SAMPLED)


def load(workload: Workload) -> Tree:
    """The parameters by name: jnp arrays."""
    vector = workload.parameters.astype(np.float32)
    views = tensor_views(workload.setting.config, vector)
    return {name: jnp.array(view) for name, view in views.items()}


def positions(workload: Workload) -> Any:
    """P (T,D)."""
    setting = workload.setting
    return jnp.asarray(sinusoidal_positions(setting.seq_len, setting.config.embed_dim), jnp.float32)


def normalize(x: Any, gain: Any, shift: Any) -> Any:
    """Layer normalization of x (...,D)."""
    centered = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centered).mean(-1, keepdims=True)
    return gain * centered * jax.lax.rsqrt(variance + 1e-5) + shift


def layer_forward(p: Tree, layer: int, x: Any, attend: Callable[..., Any]) -> Any:
    """X (...,D) after one layer; `attend` takes q, k and v (...,D)."""
    w = {name: p[f"layer{layer}.{name}"] for name in TENSORS}
    a = normalize(x, w["ln1_gain"], w["ln1_shift"])
    x = x + attend(*jnp.split(a @ w["qkv_weight"], 3, -1))
    b = normalize(x, w["ln2_gain"], w["ln2_shift"])
    hidden = jax.nn.gelu(b @ w["ff_in_weight"] + w["ff_in_bias"], approximate=True)
    return x + hidden @ w["ff_out_weight"] + w["ff_out_bias"]


TENSORS = (
    "ln1_gain", "ln1_shift", "qkv_weight", "ln2_gain", "ln2_shift",
    "ff_in_weight", "ff_in_bias", "ff_out_weight", "ff_out_bias",
)  # fmt: skip


def causal(heads: int, q: Any, k: Any, v: Any) -> Any:
    """Attention (B,T,D) of a whole sequence."""
    split = (*q.shape[:-1], heads, q.shape[-1] // heads)
    q, k, v = (each.reshape(split) for each in (q, k, v))
    scores = jnp.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(split[-1])
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    shares = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
    out = jnp.einsum("bhij,bjhd->bihd", shares, v)
    return out.reshape(*out.shape[:-2], -1)


def loss_of(p: Tree, batch: tuple[Any, Any], table: Any, config: Config) -> Any:
    """The mean loss of a batch: tokens and targets (B,T)."""
    tokens, targets = batch
    x = math.sqrt(config.embed_dim) * p["embedding"][tokens] + table
    for layer in range(config.num_layers):
        x = layer_forward(p, layer, x, partial(causal, config.num_heads))
    logits = x @ p["embedding"].T
    chosen = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return (jax.nn.logsumexp(logits, -1) - chosen).mean()


def train_step(workload: Workload) -> Callable[[Tree, tuple[Any, Any]], tuple[Tree, Any]]:
    """From the state of training and a batch to the next state and the loss."""
    table, config = positions(workload), workload.setting.config
    gradient_of = jax.value_and_grad(partial(loss_of, table=table, config=config))

    def step(state: Tree, batch: tuple[Any, Any]) -> tuple[Tree, Any]:
        loss, g = gradient_of(state["parameters"], batch)
        count = state["count"] + 1
        mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state["mean"], g)
        square = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state["square"], g)
        rate, spread = LEARNING_RATE / (1 - BETA1**count), 1 / (1 - BETA2**count)

        def move(p: Any, m: Any, v: Any) -> Any:
            return p - rate * m / (jnp.sqrt(v * spread) + EPSILON)

        parameters = jax.tree.map(move, state["parameters"], mean, square)
        return {"parameters": parameters, "mean": mean, "square": square, "count": count}, loss

    return step


class Training(Task):
    """One or many steps a call over rotating batches."""

    def __init__(self, workload: Workload, step: Callable[..., Any], per_call: int = 1) -> None:
        self.per_call = per_call
        parameters = load(workload)
        zeros = partial(jax.tree.map, jnp.zeros_like)
        self._state = {
            "parameters": parameters,
            "mean": zeros(parameters),
            "square": zeros(parameters),
            "count": jnp.zeros((), jnp.float32),
        }
        pairs = [workload.tokens, workload.targets]
        if per_call > 1:
            pairs = [ids.reshape(-1, per_call, *ids.shape[1:]) for ids in pairs]
        self._batches = [tuple(map(jnp.asarray, pair)) for pair in zip(*pairs, strict=True)]
        self._step = step
        self._taken = 0

    def call(self) -> Any:
        """The step or steps."""
        batch = self._batches[self._taken % len(self._batches)]
        self._taken += 1
        self._state, losses = self._step(self._state, batch)
        return losses

    def values(self, output: Any) -> NDArray[np.float64]:
        """The losses (per_call,)."""
        return np.asarray(output, np.float64).reshape(-1)


class Generation(Task):
    """All tokens in one call: a scan over the positions, with a static key/value cache."""

    def __init__(self, workload: Workload, *, sampled: bool) -> None:
        config, time = workload.setting.config, workload.setting.seq_len
        self.per_call = workload.new_tokens
        self._parameters = load(workload)
        self._token = jnp.asarray(workload.prompt[0])
        self._key = jax.random.key(0)
        table, heads = positions(workload), config.num_heads
        shape = (time, heads, config.head_dim)

        def draw(logits: Any, uniform: Any) -> Any:
            if not sampled:
                return logits.argmax()
            cumulative = jnp.cumsum(jax.nn.softmax(logits))
            drawn = jnp.searchsorted(cumulative, uniform * cumulative[-1], side="right")
            return jnp.minimum(drawn, len(logits) - 1)

        def decode(p: Tree, cache: Tree, token: Any, position: Any) -> tuple[Tree, Any]:
            """Logits (V,) of what follows a token."""
            x = math.sqrt(config.embed_dim) * p["embedding"][token] + table[position]
            after = {}
            for layer in range(config.num_layers):

                def attend(q: Any, k: Any, v: Any) -> Any:
                    q, k, v = (each.reshape(heads, -1) for each in (q, k, v))
                    keys = cache[f"keys{layer}"].at[position].set(k)  # noqa: B023
                    values = cache[f"values{layer}"].at[position].set(v)  # noqa: B023
                    after.update({f"keys{layer}": keys, f"values{layer}": values})  # noqa: B023
                    scores = jnp.einsum("hd,jhd->hj", q, keys) / math.sqrt(config.head_dim)
                    seen = jnp.arange(time) <= position
                    shares = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
                    return jnp.einsum("hj,jhd->hd", shares, values).reshape(-1)

                x = layer_forward(p, layer, x, attend)
            return after, p["embedding"] @ x

        @jax.jit
        def feed(p: Tree, token: Any) -> tuple[Tree, Any]:
            names = [f"{each}{layer}" for layer in range(config.num_layers) for each in CACHED]
            return decode(p, {name: jnp.zeros(shape) for name in names}, token, 0)

        @jax.jit
        def generate(p: Tree, cache: Tree, logits: Any, key: Any) -> Any:
            def one(carry: tuple[Tree, Any], given: tuple[Any, Any]) -> tuple[Any, Any]:
                position, uniform = given
                token = draw(carry[1], uniform)
                return decode(p, carry[0], token, position), token

            places = jnp.arange(1, time)
            uniforms = jax.random.uniform(key, (time - 1,)) if sampled else places
            (_, last), drawn = jax.lax.scan(one, (cache, logits), (places, uniforms))
            return drawn, last

        self._feed, self._generate = feed, generate

    def begin(self) -> None:
        """Feed the prompt."""
        self._fed = jax.block_until_ready(self._feed(self._parameters, self._token))

    def call(self) -> Any:
        """The tokens."""
        return jax.block_until_ready(self._generate(self._parameters, *self._fed, self._key))

    def values(self, output: Any) -> NDArray[np.float64]:
        """The tokens (n,)."""
        return np.asarray(output[0], np.float64)

    def evidence(self, output: Any) -> NDArray[np.float64]:
        """The tokens (n,), then the logits (V,) of what follows."""
        return np.concatenate([np.asarray(each, np.float64) for each in output])


CACHED = ("keys", "values")
