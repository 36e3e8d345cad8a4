"""A cell that compiles nothing does not load torch's compiler: a second, and 70 MiB."""

import inspect

from torch.optim import Optimizer

ANSWER = "__dynamo_disable"  # the attribute, in torch/_compile.py


def leave_out_compiler() -> None:
    """Keep the methods that all optimizers share from importing torch._dynamo.

    At its first call each of them imports it, only to ask how to be passed over by it, and keeps
    the answer as an attribute. We give the answer that holds where nothing is compiled: the plain
    method. A torch that keeps its answer elsewhere imports the compiler as ever, and is slower to
    start, no more.
    """
    for method in (Optimizer.add_param_group, Optimizer.zero_grad):
        plain = inspect.unwrap(method)
        setattr(plain, ANSWER, plain)
