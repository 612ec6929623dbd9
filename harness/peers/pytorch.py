"""CLLM's network in PyTorch, as its users would write it.

Promises: `nn.Module`, `scaled_dot_product_attention`, fused Adam, `torch.compile`; the parameters
come from our vector. Imported only in a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as fn

from cllm.config import Config
from cllm.harness.bench.task import Kind, Task
from cllm.harness.bench.workload import LEARNING_RATE, Workload
from cllm.layout import tensor_views
from cllm.positions import sinusoidal_positions

BETAS, EPSILON = (0.9, 0.999), 1e-8


def build(kind: Kind, workload: Workload, variant: str, threads: int) -> Task:
    """The task in a variant.

    `eager`; `compile`: forward and backward compiled, or the decoding of one token; `functional`:
    the whole step with Adam in one compiled graph.
    """
    torch.set_num_threads(threads)
    network = Network(workload)
    if not kind.is_training:
        return Generation(network, workload, variant, sampled=kind is Kind.SAMPLED)
    if variant == "functional":
        return Training(workload, functional_step(network))
    return Training(workload, module_step(network, compiled=variant == "compile"))


class Layer(nn.Module):
    """One layer of the residual stream."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, f = config.embed_dim, config.ff_dim
        self.heads = config.num_heads
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.ff_in, self.ff_out = nn.Linear(d, f), nn.Linear(f, d)

    def load(self, w: dict[str, Tensor]) -> None:
        """Take the tensors of a layer by our names; ours are (in, out)."""
        with torch.no_grad():
            self.qkv.weight.copy_(w["qkv_weight"].T)
            for ours, linear in (("ff_in", self.ff_in), ("ff_out", self.ff_out)):
                linear.weight.copy_(w[f"{ours}_weight"].T)
                linear.bias.copy_(w[f"{ours}_bias"])
            for ours, norm in (("ln1", self.ln1), ("ln2", self.ln2)):
                norm.weight.copy_(w[f"{ours}_gain"])
                norm.bias.copy_(w[f"{ours}_shift"])

    def split(self, a: Tensor) -> list[Tensor]:
        """q, k, v (B,H,T,D/H) of a (B,T,D)."""
        batch, time, d = a.shape
        shape = (batch, time, self.heads, d // self.heads)
        return [third.view(shape).transpose(1, 2) for third in self.qkv(a).split(d, -1)]

    def forward(self, x: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        """X (B,T,D) after attention and the feed-forward layer."""
        x = x + attend(*self.split(self.ln1(x))).transpose(1, 2).reshape(x.shape)
        hidden = fn.gelu(self.ff_in(self.ln2(x)), approximate="tanh")
        out: Tensor = x + self.ff_out(hidden)
        return out


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of a whole sequence."""
    return fn.scaled_dot_product_attention(q, k, v, is_causal=True)


class Network(nn.Module):
    """The model of CLLM."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        config, time = workload.setting.config, workload.setting.seq_len
        self.scale = math.sqrt(config.embed_dim)
        self.embedding = nn.Embedding(config.vocab_size, config.embed_dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        positions = sinusoidal_positions(time, config.embed_dim).astype(np.float32)
        self.positions: Tensor
        self.register_buffer("positions", torch.from_numpy(positions))
        vector = workload.parameters.astype(np.float32)
        tensors = {k: torch.from_numpy(v) for k, v in tensor_views(config, vector).items()}
        with torch.no_grad():
            self.embedding.weight.copy_(tensors["embedding"])
        for i, layer in enumerate(self.layers):
            prefix = f"layer{i}."
            names = [name for name in tensors if name.startswith(prefix)]
            layer.load({name.removeprefix(prefix): tensors[name] for name in names})

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of tokens and targets (B,T)."""
        x = self.scale * self.embedding(tokens) + self.positions
        for layer in self.layers:
            x = layer(x, causal)
        logits = fn.linear(x, self.embedding.weight)
        return fn.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


Step = Callable[[Tensor, Tensor], Tensor]
"""From tokens and targets (B,T) to the loss, with the parameters updated."""


def module_step(network: Network, *, compiled: bool) -> Step:
    """Forward and backward of the module, eager or compiled, and fused Adam."""
    adam = torch.optim.Adam(
        network.parameters(), LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True
    )
    loss_of = torch.compile(network, fullgraph=True, dynamic=False) if compiled else network

    def step(tokens: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = loss_of(tokens, targets)
        loss.backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def functional_step(network: Network) -> Step:
    """Gradient and Adam in one compiled graph, which updates the parameters in place."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    first = {name: torch.zeros_like(p) for name, p in parameters.items()}
    second = {name: torch.zeros_like(p) for name, p in parameters.items()}
    count = torch.zeros(())
    beta1, beta2 = BETAS

    def loss_of(parameters: dict[str, Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = torch.func.functional_call(network, parameters, (tokens, targets))
        return loss

    @torch.compile(fullgraph=True, dynamic=False)
    def step(tokens: Tensor, targets: Tensor) -> Tensor:
        gradients, loss = torch.func.grad_and_value(loss_of)(parameters, tokens, targets)
        count.add_(1)
        rate, spread = LEARNING_RATE / (1 - beta1**count), (1 - beta2**count).rsqrt()
        for name, gradient in gradients.items():
            m, v = first[name], second[name]
            m.mul_(beta1).add_(gradient, alpha=1 - beta1)
            v.mul_(beta2).add_(gradient * gradient, alpha=1 - beta2)
            parameters[name].sub_(rate * m / (v.sqrt() * spread + EPSILON))
        return loss

    compiled: Step = step
    return compiled


class Training(Task):
    """Steps over rotating batches."""

    def __init__(self, workload: Workload, step: Step) -> None:
        ids = [torch.from_numpy(ids).long() for ids in (workload.tokens, workload.targets)]
        self._batches = [*zip(*(kind.unbind() for kind in ids), strict=True)]
        self._step = step
        self._taken = 0

    def call(self) -> Tensor:
        """One step."""
        tokens, targets = self._batches[self._taken % len(self._batches)]
        self._taken += 1
        return self._step(tokens, targets)

    def values(self, output: Any) -> NDArray[np.float64]:
        """The loss (1,)."""
        return np.array([output.item()])


class Generation(Task):
    """Decoding with a static key/value cache, greedy or at temperature 1."""

    def __init__(
        self, network: Network, workload: Workload, variant: str, *, sampled: bool
    ) -> None:
        config, time = workload.setting.config, workload.setting.seq_len
        shape = (1, config.num_heads, time, config.head_dim)
        self._cache = [(torch.zeros(shape), torch.zeros(shape)) for _ in network.layers]
        self._network, self._eager, self._sampled = network, variant == "eager", sampled
        self._prompt = torch.from_numpy(workload.prompt).long().view(1, 1)
        self._places = [torch.tensor([i]) for i in range(time)]
        self._seen = torch.tril(torch.ones(time, time, dtype=torch.bool))[:, None, None]
        self._next = self._logits = self._prompt
        self.per_call = workload.new_tokens
        self._decode = torch.compile(self._decode_masked, fullgraph=True, dynamic=False)

    @torch.inference_mode()
    def begin(self) -> None:
        """Feed the prompt."""
        self._feed(self._prompt, 0)

    @torch.inference_mode()
    def call(self) -> list[Tensor]:
        """The tokens, each fed back."""
        drawn = []
        for position in range(1, self.per_call + 1):
            drawn.append(self._next)
            self._feed(self._next, position)
        return drawn

    def values(self, output: Any) -> NDArray[np.float64]:
        """The tokens (n,)."""
        tokens: NDArray[np.float64] = torch.cat(output).flatten().double().numpy()
        return tokens

    def evidence(self, output: Any) -> NDArray[np.float64]:
        """The tokens (n,), then the logits (V,) of what follows."""
        return np.concatenate([self.values(output), self._logits[0].double().numpy()])

    def _feed(self, token: Tensor, position: int) -> None:
        if self._eager:
            self._next, self._logits = self._decode_prefix(token, position)
        else:
            seen = self._seen[position]
            self._next, self._logits = self._decode(token, self._places[position], seen)

    def _decode_prefix(self, token: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """The next token (1,1) and its logits (1,V); attends to the filled part of the cache."""
        network = self._network
        x = network.scale * network.embedding(token) + network.positions[position]
        for layer, (keys, values) in zip(network.layers, self._cache, strict=True):

            def attend(
                q: Tensor, k: Tensor, v: Tensor, keys: Tensor = keys, values: Tensor = values
            ) -> Tensor:
                keys[:, :, position : position + 1] = k
                values[:, :, position : position + 1] = v
                seen = slice(position + 1)
                return fn.scaled_dot_product_attention(q, keys[:, :, seen], values[:, :, seen])

            x = layer(x, attend)
        return self._draw(fn.linear(x[0], network.embedding.weight))

    def _decode_masked(self, token: Tensor, place: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """The same with shapes that never change: attention over the whole cache, masked."""
        network = self._network
        x = network.scale * network.embedding(token) + network.positions[place]
        for layer, (keys, values) in zip(network.layers, self._cache, strict=True):

            def attend(
                q: Tensor, k: Tensor, v: Tensor, keys: Tensor = keys, values: Tensor = values
            ) -> Tensor:
                keys.index_copy_(2, place, k)
                values.index_copy_(2, place, v)
                return fn.scaled_dot_product_attention(q, keys, values, attn_mask=seen)

            x = layer(x, attend)
        return self._draw(fn.linear(x[0], network.embedding.weight))

    def _draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """A token (1,1) of logits (1,V), and these."""
        if self._sampled:
            # The token that comes first in a race of exponential clocks: multinomial(1), compiled.
            clocks = torch.empty_like(logits).exponential_(1)
            return (fn.softmax(logits, -1) / clocks).argmax(-1, keepdim=True), logits
        return logits.argmax(-1, keepdim=True), logits
