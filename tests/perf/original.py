"""The original's way of working, plainly: the baseline that our speed is measured against.

The same models, optimizers and figures as ours, written as the original's program is: a Linear a
head for each of query, key and value, a list of experts whose outputs are stacked, Newton-Schulz
one matrix at a time, batches cut out and stacked one by one, evaluation on 200 random batches of
each split.

Shapes: B sequences, T tokens, d = n_embd, H heads, E experts, V = vocabulary.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.options import AdamWOptions, DecoderOptions, NanoKimiOptions, TrueMuonOptions

EVAL_BATCHES = 200  # of each split


class Head(nn.Module):
    def __init__(self, d: int, size: int, block_size: int, scale: float) -> None:
        super().__init__()
        self.query = nn.Linear(d, size, bias=False)
        self.key = nn.Linear(d, size, bias=False)
        self.value = nn.Linear(d, size, bias=False)
        self.register_buffer("past", torch.tril(torch.ones(block_size, block_size)))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        scores = self.query(x) @ self.key(x).transpose(-2, -1) * self.scale  # (B, T, T)
        scores = scores.masked_fill(self.past[:T, :T] == 0, float("-inf"))
        return F.softmax(scores, dim=-1) @ self.value(x)


class Attention(nn.Module):
    def __init__(self, options: DecoderOptions, block_size: int) -> None:
        super().__init__()
        d, H = options.n_embd, options.n_head
        scale = {"n_embd": d, "head_size": d // H}[options.attention_scale] ** -0.5
        self.heads = nn.ModuleList(Head(d, d // H, block_size, scale) for _ in range(H))
        self.output = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.cat([head(x) for head in self.heads], dim=-1))


class Dense(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.up = nn.Linear(d, 4 * d)
        self.down = nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)))


class Expert(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.up = nn.Linear(d, 2 * d)
        self.down = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(first) * second)


class Mixture(nn.Module):
    def __init__(self, d: int, n_experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d, n_experts)
        self.experts = nn.ModuleList(Expert(d) for _ in range(n_experts))

    def forward(self, x: Tensor) -> Tensor:
        gate = F.softmax(self.gate(x), dim=-1)  # (B, T, E)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=2)  # (B, T, E, d)
        return (gate.unsqueeze(-1) * outputs).sum(dim=2)


class Block(nn.Module):
    def __init__(self, options: DecoderOptions, block_size: int) -> None:
        super().__init__()
        d = options.n_embd
        self.attention_norm = nn.LayerNorm(d)
        self.attention = Attention(options, block_size)
        self.feed_forward_norm = nn.LayerNorm(d)
        mixture = isinstance(options, NanoKimiOptions)
        self.feed_forward = Mixture(d, options.n_experts) if mixture else Dense(d)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Model(nn.Module):
    def __init__(self, options: DecoderOptions, vocab_size: int, block_size: int) -> None:
        super().__init__()
        d = options.n_embd
        self.token = nn.Embedding(vocab_size, d)
        self.position = nn.Embedding(block_size, d)
        self.blocks = nn.Sequential(*(Block(options, block_size) for _ in range(options.n_layer)))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, vocab_size)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The mean loss in nats a token; tokens and targets: (B, T)."""
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        logits = self.head(self.norm(self.blocks(x)))
        B, T, V = logits.shape
        return F.cross_entropy(logits.view(B * T, V), targets.reshape(B * T))


def is_matrix(name: str, value: Tensor) -> bool:
    """What TrueMuon orthogonalises: the blocks' matrices, each by itself."""
    return name.startswith("blocks.") and value.dim() == 2


def newton_schulz(X: Tensor, steps: int) -> Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = X.shape[0] > X.shape[1]
    if tall:
        X = X.T
    X = X / (X.norm() + 1e-7)
    for _ in range(steps):
        A = X @ X.T
        B = b * A + c * A @ A
        X = a * X + B @ X
    return X.T if tall else X


class TrueMuon(torch.optim.Optimizer):
    def __init__(self, parameters: Iterable[Tensor], options: TrueMuonOptions) -> None:
        super().__init__(parameters, {"lr": options.lr, "weight_decay": options.weight_decay})
        self.momentum, self.ns_steps = options.momentum, options.ns_steps

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient, state = parameter.grad, self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"]
                momentum.mul_(self.momentum).add_(gradient, alpha=1 - self.momentum)
                update = newton_schulz(momentum * self.momentum + gradient, self.ns_steps)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])


def optimizers(
    model: Model, options: AdamWOptions | TrueMuonOptions
) -> list[torch.optim.Optimizer]:
    if isinstance(options, AdamWOptions):
        return [
            torch.optim.AdamW(
                model.parameters(),
                lr=options.lr,
                betas=(options.beta1, options.beta2),
                eps=options.eps,
                weight_decay=options.weight_decay,
            )
        ]
    named = dict(model.named_parameters())
    matrices = [value for name, value in named.items() if is_matrix(name, value)]
    rest = [value for name, value in named.items() if not is_matrix(name, value)]
    adamw = torch.optim.AdamW(rest, lr=options.adamw_lr, weight_decay=options.adamw_weight_decay)
    return [TrueMuon(matrices, options), adamw]


def batch(text: Tensor, positions: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """Tokens and their successors, (B, T) each, from a text (n,) at these positions (B,)."""
    tokens = torch.stack([text[p : p + block_size] for p in positions])
    targets = torch.stack([text[p + 1 : p + block_size + 1] for p in positions])
    return tokens, targets


class Program:
    """A model in training."""

    def __init__(
        self,
        model: Model,
        options: AdamWOptions | TrueMuonOptions,
        splits: dict[str, Tensor],  # train and val: (n,) each
        batch_size: int,
        block_size: int,
    ) -> None:
        self.model, self.splits = model, splits
        self.optimizers = optimizers(model, options)
        self.batch_size, self.block_size = batch_size, block_size

    def step(self, positions: Tensor) -> float:
        """One update at these positions (B,); the loss before it."""
        loss = self.model(*batch(self.splits["train"], positions, self.block_size))
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self, batches: int = EVAL_BATCHES) -> dict[str, float]:
        """The mean loss over random batches of each split."""
        self.model.eval()
        means = {}
        for split, text in self.splits.items():
            losses = torch.zeros(batches)
            for index in range(batches):
                starts = torch.randint(len(text) - self.block_size, (self.batch_size,))
                losses[index] = self.model(*batch(text, starts, self.block_size)).item()
            means[split] = losses.mean().item()
        self.model.train()
        return means
