"""Models and optimizers written straight from their description: slow, looped, easy to believe.

`Reference` names its parameters as the models name their logical tensors, so that values and
gradients can be compared name by name.
"""

import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import Stack
from bench.border.options import DecoderOptions, NanoKimiOptions
from bench.optim.orthogonal import POLAR_EXPRESS


class RMSNorm(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * over_rms(x)


def over_rms(x: Tensor) -> Tensor:
    return x / ((x * x).sum(-1, keepdim=True) / x.shape[-1] + 1e-5).sqrt()


def norm(options: DecoderOptions) -> nn.Module:
    d = options.n_embd
    return RMSNorm(d) if options.norm == "rmsnorm" else nn.LayerNorm(d, bias=options.bias)


def rotated(x: Tensor, base: float) -> Tensor:
    """(B, T, h): at each position by a rotation matrix, which mixes number i with i + h / 2."""
    return torch.stack(
        [x[:, t] @ rotation(t, x.shape[-1], base).to(x.dtype).T for t in range(x.shape[1])], 1
    )


def rotation(t: int, h: int, base: float) -> Tensor:
    """(h, h); its numbers are of float32, as the models keep them."""
    R = torch.zeros(h, h)
    for i in range(h // 2):
        j, angle = i + h // 2, t * base ** (-2 * i / h)
        R[i, i] = R[j, j] = math.cos(angle)
        R[j, i] = math.sin(angle)
        R[i, j] = -R[j, i]
    return R


class Attention(nn.Module):
    def __init__(self, options: DecoderOptions) -> None:
        super().__init__()
        d, H = options.n_embd, options.n_head
        self.options = options
        self.query = nn.ModuleList(nn.Linear(d, d // H, bias=False) for _ in range(H))
        self.key = nn.ModuleList(nn.Linear(d, d // H, bias=False) for _ in range(H))
        self.value = nn.ModuleList(nn.Linear(d, d // H, bias=False) for _ in range(H))
        self.output = nn.Linear(d, d, bias=options.bias)
        self.scale = {"n_embd": d, "head_size": d // H}[options.attention_scale] ** -0.5

    def prepared(self, x: Tensor) -> Tensor:
        """A head's queries or keys: (B, T, h), as they are multiplied with each other."""
        if self.options.qk_norm:
            x = over_rms(x)
        return rotated(x, self.options.rope_base) if self.options.position == "rope" else x

    def scores(self, x: Tensor, head: int) -> Tensor:
        """(B, T, T), each query with each key."""
        query, key = self.query[head](x), self.key[head](x)
        return self.prepared(query) @ self.prepared(key).mT * self.scale

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        future = torch.ones(T, T, dtype=torch.bool).triu(1)
        heads = []
        for head, value in enumerate(self.value):
            weights = self.scores(x, head).masked_fill(future, -torch.inf).softmax(-1)
            heads.append(weights @ value(x))
        return self.output(torch.cat(heads, -1))


def square_of_relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x * x, 0.0)


class Dense(nn.Module):
    def __init__(self, d: int, h: int, activation: str, bias: bool) -> None:
        super().__init__()
        self.up = nn.Linear(d, h, bias)
        self.down = nn.Linear(h, d, bias)
        self.activate = {"relu": F.relu, "gelu": F.gelu, "relu2": square_of_relu}[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activate(self.up(x)))


class Gated(nn.Module):
    def __init__(self, d: int, h: int, bias: bool) -> None:
        super().__init__()
        self.up = nn.Linear(d, 2 * h, bias)
        self.down = nn.Linear(h, d, bias)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.up(x).chunk(2, -1)
        return self.down(F.silu(first) * second)


def expert(options: NanoKimiOptions) -> nn.Module:
    """With as many hidden units as give each activation the parameters of n_embd gated ones."""
    d = options.n_embd
    if options.activation == "swiglu":
        return Gated(d, options.expert_hidden or d, options.bias)
    h = options.expert_hidden or round((3 * d + 2) * d / (2 * d + 1))
    return Dense(d, h, options.activation, options.bias)


class Mixture(nn.Module):
    """Every expert is computed; the weights of those that a token did not choose are 0."""

    def __init__(self, options: NanoKimiOptions) -> None:
        super().__init__()
        self.options = options
        self.gate = nn.Linear(options.n_embd, options.n_experts, options.bias)
        self.experts = nn.ModuleList(expert(options) for _ in range(options.n_experts))
        self.shared = nn.ModuleList(expert(options) for _ in range(options.n_shared_experts))
        self.preference = torch.zeros(options.n_experts)  # what balance: bias adds to a choice

    def scores(self, x: Tensor) -> Tensor:
        logits = self.gate(x)
        return logits.softmax(-1) if self.options.router == "softmax" else logits.sigmoid()

    def choices(self, scores: Tensor) -> Tensor:
        """1 for each expert that a token visits, 0 for the others."""
        if self.options.gating == "all":
            return torch.ones_like(scores)
        ranks = (scores + self.preference).argsort(dim=-1, descending=True).argsort(dim=-1)
        return (ranks < self.options.top_k).to(scores.dtype)

    def weights(self, x: Tensor) -> Tensor:
        scores = self.scores(x)
        kept = scores * self.choices(scores)
        single = self.options.gating == "topk" and self.options.top_k == 1
        return kept if single else kept / kept.sum(-1, keepdim=True)

    def auxiliary_loss(self, x: Tensor) -> Tensor:
        scores = self.scores(x).flatten(0, -2)
        visits = self.choices(scores).sum(0)
        shares = (scores / scores.sum(-1, keepdim=True)).mean(0)
        terms = zip(visits / visits.sum(), shares, strict=True)
        total = sum(visited * share for visited, share in terms)
        return self.options.aux_coefficient * self.options.n_experts * total

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        weights = self.weights(x)
        total = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            total = total + weights[..., index : index + 1] * expert(x)
        for expert in self.shared:
            total = total + expert(x)
        return total


class Block(nn.Module):
    def __init__(self, options: DecoderOptions) -> None:
        super().__init__()
        d, bias = options.n_embd, options.bias
        self.attention_norm = norm(options)
        self.attention = Attention(options)
        self.feed_forward_norm = norm(options)
        if isinstance(options, NanoKimiOptions):
            self.feed_forward = Mixture(options)
        elif options.activation == "swiglu":
            self.feed_forward = Gated(d, round((8 * d + 4) * d / (3 * d + 2)), bias)
        else:
            self.feed_forward = Dense(d, 4 * d, options.activation, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Reference(nn.Module):
    def __init__(self, options: DecoderOptions, vocab_size: int, block_size: int) -> None:
        super().__init__()
        d = options.n_embd
        self.options = options
        if not options.tied_head:
            self.token = nn.Embedding(vocab_size, d)
        if options.position == "learned":
            self.position = nn.Embedding(block_size, d)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.n_layer))
        self.norm = norm(options)
        self.head = nn.Linear(d, vocab_size, options.bias)

    def embedded(self, tokens: Tensor) -> Tensor:
        if self.options.tied_head:
            return math.sqrt(self.options.n_embd) * self.head.weight[tokens]
        return self.token(tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedded(tokens)
        if self.options.position == "learned":
            x = x + self.position(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def logical(
    stacks: Iterable[Stack], of: Callable[[nn.Parameter], Tensor] = lambda parameter: parameter.data
) -> dict[str, Tensor]:
    """The logical tensors by name: views of the values, or of what `of` gives."""
    return {
        name: tensor
        for stack in stacks
        for name, tensor in zip(stack.names, stack.view(of(stack.parameter)), strict=True)
    }


def copy_weights(model: nn.Module, reference: Reference) -> None:
    """Both must have the same logical tensors, of the same shapes."""
    reference.load_state_dict(logical(model.stacks()), strict=True)


def stream(seed: int) -> Callable[[str], torch.Generator]:
    """A random stream for each name."""

    def generator(name: str) -> torch.Generator:
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))

    return generator


def assert_near(actual: Tensor, expected: Tensor, tolerance: float, name: str = "") -> None:
    """The difference is small against the whole tensor, not against each number."""
    assert actual.shape == expected.shape, f"{name}: {actual.shape}, expected {expected.shape}"
    error, size = (actual - expected).norm().item(), expected.norm().item()
    assert error <= tolerance * size, f"{name}: error {error:.3g} for a tensor of norm {size:.3g}"


def is_block_matrix(name: str, value: Tensor) -> bool:
    """What truemuon orthogonalises, of the logical tensors."""
    return name.startswith("blocks.") and value.dim() == 2


def newton_schulz(X: Tensor, steps: int = 5, coefficients: str = "jordan") -> Tensor:
    X = X / (X.square().sum().sqrt() + 1e-7)
    tall = X.shape[0] > X.shape[1]
    if tall:
        X = X.T
    for index in range(steps):
        a, b, c = iteration(coefficients, index)
        A = X @ X.T
        B = b * A + c * A @ A
        X = a * X + B @ X
    return X.T if tall else X


def iteration(coefficients: str, index: int) -> tuple[float, float, float]:
    """(a, b, c) of one iteration; those of polar_express are held in tests/optim."""
    if coefficients == "jordan":
        return 3.4445, -4.7750, 2.0315
    if index >= 7:
        return 1.875, -1.25, 0.375
    a, b, c = POLAR_EXPRESS[index]
    return a / 1.01, b / 1.01**3, c / 1.01**5


def quintic(coefficients: tuple[float, float, float], s: Any) -> Any:
    a, b, c = coefficients
    return a * s + b * s**3 + c * s**5


def nearest_quintic(low: float, high: float) -> tuple[float, float, float]:
    """a, b, c of the odd quintic p with the least max |1 - p(s)| over [low, high].

    Remez's exchange: p misses 1 by E, -E, E, -E at low, q, r, high; q and r move to where p' is 0.
    """
    q, r = (2 * low + high) / 3, (low + 2 * high) / 3
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    for _ in range(50):
        s = torch.tensor([low, q, r, high], dtype=torch.float64)
        equations = torch.stack([s, s**3, s**5, signs], 1)
        a, b, c, _ = torch.linalg.solve(equations, torch.ones(4, dtype=torch.float64)).tolist()
        # p'(s) = a + 3 b s^2 + 5 c s^4
        middle, half = -0.3 * b / c, (0.09 * b * b - 0.2 * a * c) ** 0.5 / c
        q, r = (middle - half) ** 0.5, (middle + half) ** 0.5
    return a, b, c


class Muon:
    """One logical matrix."""

    def __init__(
        self,
        W: Tensor,
        lr: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        ns_steps: int = 5,
        momentum_form: str = "original",
        update_scale: str = "none",
        coefficients: str = "jordan",
        second_moment: str = "none",
        beta2: float = 0.95,
        cautious_decay: bool = False,
    ) -> None:
        rows, columns = W.shape
        scales = {
            "none": 1.0,
            "sqrt_ratio": max(1.0, rows / columns) ** 0.5,
            "match_rms": 0.2 * max(rows, columns) ** 0.5,
        }
        self.scale = scales[update_scale]
        shares = {  # of momentum and gradient, in what is orthogonalised
            "original": (momentum, 1.0),
            "nesterov": (momentum, 1 - momentum),
            "momentum": (1.0, 0.0),
        }
        self.share, self.own_share = shares[momentum_form]
        self.W, self.m = W.clone(), torch.zeros_like(W)
        self.lr, self.momentum = lr, momentum
        self.weight_decay = weight_decay
        self.ns_steps, self.coefficients = ns_steps, coefficients
        self.second_moment, self.beta2 = second_moment, beta2
        self.cautious_decay = cautious_decay
        self.v = torch.zeros_like(W)

    def step(self, g: Tensor) -> None:
        self.m = self.momentum * self.m + (1 - self.momentum) * g
        mixed = self.share * self.m + self.own_share * g
        X = newton_schulz(mixed, self.ns_steps, self.coefficients)
        if self.second_moment != "none":
            X = self.divided(X)
        decayed = self.W
        if self.cautious_decay:
            decayed = torch.where(X.sign() * self.W.sign() < 0, 0.0, self.W)
        self.W = self.W - self.lr * (self.scale * X + self.weight_decay * decayed)

    def divided(self, X: Tensor) -> Tensor:
        """By the root of an average of squares, row by row where one is kept for each."""
        for row, (v, x) in enumerate(zip(self.v, X, strict=True)):
            squares = x * x if self.second_moment == "elements" else (x * x).sum() / len(x)
            self.v[row] = self.beta2 * v + (1 - self.beta2) * squares
        divided = X / (self.v.sqrt() + 1e-8)
        return divided * (X.square().sum() / divided.square().sum()).sqrt()


class AdamW:
    """One logical tensor; Loshchilov and Hutter 2019, algorithm 2, weight decay times lr."""

    def __init__(
        self,
        W: Tensor,
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.W, self.m, self.v, self.t = W.clone(), torch.zeros_like(W), torch.zeros_like(W), 0
        self.lr, self.beta1, self.beta2 = lr, beta1, beta2
        self.eps, self.weight_decay = eps, weight_decay

    def step(self, g: Tensor) -> None:
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g * g
        m_hat = self.m / (1 - self.beta1**self.t)
        v_hat = self.v / (1 - self.beta2**self.t)
        self.W = self.W - self.lr * (m_hat / (v_hat.sqrt() + self.eps) + self.weight_decay * self.W)
