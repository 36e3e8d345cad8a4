"""Which optimizer gets which parameters."""

from collections.abc import Collection, Sequence

import torch

from bench.border.logical import Stack


def by_role(stacks: Sequence[Stack], roles: Collection[str]) -> tuple[list[Stack], list[Stack]]:
    """The stacks of these roles, and all others; together they are all stacks."""
    chosen = [stack for stack in stacks if stack.role in roles]
    rest = [stack for stack in stacks if stack.role not in roles]
    assert len(chosen) + len(rest) == len(stacks)
    return chosen, rest


def by_dtype(stacks: Sequence[Stack]) -> list[list[Stack]]:
    """The stacks of each number format, in the order in which the formats appear."""
    found: dict[torch.dtype, list[Stack]] = {}
    for stack in stacks:
        found.setdefault(stack.parameter.dtype, []).append(stack)
    return list(found.values())
