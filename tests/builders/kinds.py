"""Models and optimizers as people write them: one text each, with oddities that can be combined."""

from collections.abc import Collection
from dataclasses import dataclass

# Name -> what it puts in place of a line of the plain text. Each marker stands there once.
Changes = dict[str, str]


@dataclass(frozen=True)
class Kind:
    """An oddity: parts of the text that it changes, and whether a cell can be run with it."""

    changes: Changes
    wrong: str = ""  # what a check says of it; empty: it is no mistake


MODEL = '''\
import torch
import torch.nn.functional as F
from torch import nn


class Angles(nn.Module):
    """Multiplies by cosines of the position, kept from the first pass on."""

    kept = None

    def forward(self, x):
        if self.kept is None or self.kept.shape[0] != x.shape[1]:
            self.kept = torch.arange(x.shape[1], device=x.device).cos()[:, None]
        return x * self.kept


class Small(nn.Module):
    def __init__(self, vocab_size, block_size, d):
        super().__init__()
        self.V = vocab_size
        self.token = nn.Embedding(vocab_size, d)  # TOKEN
        self.up = nn.Linear(d, 2 * d)  # UP
        self.down = nn.Linear(2 * d, d)
        self.head = nn.Linear(d, vocab_size)  # HEAD
        # INIT

    # METHODS

    def forward(self, tokens, targets=None):
        x = self.token(tokens)
        # BEFORE
        x = x + self.down(self.up(x).relu())
        # AFTER
        return self.head(x)  # RETURN


def build(vocab_size, block_size, d=16):
    return Small(vocab_size, block_size, d)
'''

MODELS: dict[str, Kind] = {
    "keeps angles from its first pass": Kind(
        {"# INIT": "self.turn = Angles()", "# BEFORE": "x = self.turn(x)"}
    ),
    "makes a buffer in its first pass": Kind(
        {
            "# AFTER": "if not hasattr(self, 'scale'):\n"
            "            self.register_buffer('scale', torch.ones(x.shape[-1]))\n"
            "        x = x * self.scale"
        }
    ),
    "calls its layers stacks": Kind(
        {"# INIT": "self.stacks = nn.ModuleList([self.up, self.down])"}
    ),
    "has counts that are numbers": Kind(
        {"# INIT": "self.flops_per_token, self.n_params_active = 12, 'all'"}
    ),
    "keeps a running mean": Kind(
        {
            "# INIT": "self.register_buffer('mean', torch.zeros(d))",
            "# AFTER": "if self.training:\n"
            "            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 1))\n"
            "        x = x - self.mean",
        }
    ),
    "ties its head": Kind({"self.head(x)  # RETURN": "F.linear(x, self.token.weight)"}),
    "pads its vocabulary": Kind({"nn.Linear(d, vocab_size)  # HEAD": "nn.Linear(d, 64)"}),
    "has a frozen layer": Kind({"# INIT": "self.up.requires_grad_(False)"}),
    "has a layer that it does not use": Kind({"# INIT": "self.spare = nn.Linear(d, d)"}),
    "drops out": Kind({"# AFTER": "x = F.dropout(x, 0.1, self.training)"}),
    "is built for an even vocabulary alone": Kind({"# INIT": "assert vocab_size % 2 == 0"}),
    "takes gradients in its forward": Kind(
        {
            "# AFTER": "with torch.enable_grad():\n"
            "            y = x if x.requires_grad else x.detach().requires_grad_()\n"
            "            x = x + torch.autograd.grad((y * y).sum(), y, create_graph=True)[0]"
        }
    ),
    "has a buffer of the batch's size": Kind(
        {
            "# INIT": "self.register_buffer('last', torch.zeros(0))",
            "# AFTER": "self.last = x.detach()[:, -1]",
        }
    ),
    "has a weight in two parts": Kind(
        {"# INIT": "nn.utils.parametrizations.weight_norm(self.head)"}
    ),
    "makes a layer in its first pass": Kind(
        {
            "# AFTER": "if not hasattr(self, 'more'):\n"
            "            self.more = nn.Linear(x.shape[-1], x.shape[-1])\n"
            "        x = self.more(x)"
        },
        "forward makes parameters (more.weight, more.bias), which no optimizer has",
    ),
    "sets the arithmetic of the process": Kind(
        {"# INIT": "torch.set_float32_matmul_precision('medium')"},
        "train.matmul_precision means highest in torch",
    ),
    "calls a setting train": Kind(
        {"# INIT": "self.train = True"}, "hides nn.Module.train(). Call it by another name"
    ),
    "returns a loss too": Kind(
        {"return self.head(x)  # RETURN": "return self.head(x), None"},
        "forward returned 2 things: return the logits alone",
    ),
    "returns the last position alone": Kind(
        {"self.head(x)  # RETURN": "self.head(x[:, -1:])"}, "return one logit for each token"
    ),
    "has layers without sizes": Kind(
        {"nn.Linear(d, 2 * d)  # UP": "nn.LazyLinear(2 * d)"}, "Give the layer its sizes"
    ),
    "keeps what depends on parameters": Kind(
        {
            "# INIT": "self.place = nn.Embedding(block_size, d)\n        self.kept = None",
            "# BEFORE": "if self.kept is None:\n"
            "            self.kept = self.place(torch.arange(tokens.shape[1], device=x.device))\n"
            "        x = x + self.kept",
        },
        "what the model keeps from one pass to the next must not depend on parameters",
    ),
    "keeps what it made when evaluated": Kind(
        {
            "# INIT": "self.place = nn.Embedding(block_size, d)\n        self.kept = None",
            "# BEFORE": "here = self.kept\n"
            "        if here is None:\n"
            "            here = self.place(torch.arange(tokens.shape[1], device=x.device))\n"
            "            self.kept = None if self.training else here\n"
            "        x = x + here",
        },
        "place.weight get no gradient once the model was evaluated",
    ),
    "has a method stacks": Kind(
        {"# METHODS": "def stacks(self): return [self.up, self.down]"},
        "Call yours by another name",
    ),
    "cannot be evaluated in parts": Kind(
        {"# BEFORE": "assert len(tokens) == 4 or self.training, 'a batch of 4'"}, "a batch of 4"
    ),
}

OPTIMIZER = """\
import torch


class Mine(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta})
        # INIT

    # METHODS

    @torch.no_grad()
    def step(self, closure=None):  # STEP
        # BEFORE
        for group in self.param_groups:
            rate = group["lr"]  # RATE
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.momentum_of(p)
                momentum.lerp_(p.grad, 1 - group["beta"])
                p.add_(momentum.sign(), alpha=-rate)  # UPDATE

    def momentum_of(self, p):
        state = self.state[p]
        if "m" not in state:
            state["m"] = torch.zeros_like(p)  # STATE
        return state["m"]  # MOMENTUM
"""

OPTIMIZERS: dict[str, Kind] = {
    "keeps a count under a name": Kind(
        {"# INIT": "self.state['n'] = 0", "# BEFORE": "self.state['n'] += 1"}
    ),
    "keeps its state in a list": Kind(
        {
            'state["m"] = torch.zeros_like(p)  # STATE': 'state["m"] = [torch.zeros_like(p)]',
            'state["m"]  # MOMENTUM': 'state["m"][0]',
        }
    ),
    "has a second rate": Kind(
        {
            '{"lr": lr, "beta"': '{"lr": lr, "vector_lr": lr / 2, "beta"',
            'group["lr"]  # RATE': 'group["vector_lr"]',
        }
    ),
    "has an attribute train": Kind({"# INIT": "self.train, self.eval = True, False"}),
    "asks for a closure": Kind(
        {"closure=None):  # STEP": "closure):", "# BEFORE": "closure()\n        closure()"}
    ),
    "calls a closure if there is one": Kind({"# BEFORE": "closure() if closure else None"}),
    "replaces data": Kind(
        {"p.add_(momentum.sign(), alpha=-rate)  # UPDATE": "p.data = p - rate * momentum.sign()"}
    ),
    "has no rate that is called lr": Kind(
        {'{"lr": lr,': '{"speed": lr,', 'group["lr"]  # RATE': 'group["speed"]'},
    ),
    "gathers ten gradients first": Kind(
        {
            "# INIT": "self.steps = 0",
            "# BEFORE": "self.steps += 1",
            'group["lr"]  # RATE': 'group["lr"] if self.steps > 10 else 0',
        }
    ),
    "takes gradients of gradients": Kind(
        {
            "# BEFORE": "first = self.param_groups[0]['params'][0]\n"
            "        torch.autograd.grad(first.grad.sum(), first)"
        },
        "Its step takes gradients of gradients, which a run does not keep",
    ),
    "asks for a closure by name alone": Kind(
        {"closure=None):  # STEP": "*, closure):", "# BEFORE": "closure()"}
    ),
    "calls its closure otherwise": Kind(
        {"closure=None):  # STEP": "loss_fn):", "# BEFORE": "loss_fn()"}
    ),
    "clears gradients without a choice": Kind(
        {"# METHODS": "def zero_grad(self): super().zero_grad()"}
    ),
    "updates half of all in turns": Kind(
        {
            "# INIT": "self.steps = 0",
            "# BEFORE": "self.steps += 1",
            'in group["params"]:': 'in group["params"][:: 2 if self.steps < 99 else 1]:',
        }
    ),
    "goes back once more": Kind(
        {"closure=None):  # STEP": "closure):", "# BEFORE": "closure().backward()"},
        "A closure computes the gradients itself: call no backward() after it",
    ),
    "moves copies": Kind(
        {"super().__init__(params,": "super().__init__([p.detach().clone() for p in params],"},
        "Keep those that the class is given",
    ),
    "does not call its closure": Kind(
        {"closure=None):  # STEP": "closure):"}, "did not call its closure"
    ),
}


def text_of(plain: str, kinds: Collection[Kind]) -> str | None:
    """The plain text with all these changes; None where two of them change one place."""
    for kind in kinds:
        for marker, put in kind.changes.items():
            if plain.count(marker) != 1:
                return None
            plain = plain.replace(marker, put)
    return plain
