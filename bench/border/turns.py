"""Cells that share CPUs and train in turn: what both sides say of it.

A worker trains for a slice, says that it passes on, and goes on once it is told. What the machine
does meanwhile, with its clock and its other users, then falls on all of them alike. On a shared
machine, most of the difference between cells that run one after the other is the machine's. ("Duet
Benchmarking", Bulej et al. 2020, lets them run at once instead, which needs idle CPUs.)
"""

IN_TURN = "--in-turn"  # a worker's first argument, where it does so
PASSES_ON = "wait"  # the stage of the line by which it says that it passes on
YOUR_TURN = b"\n"  # what it is then told on its standard input

# Seconds of training. A shared machine was seen to change its speed by a half every few seconds.
# After each hand-over the processor's caches are another's, and full again within milliseconds.
SLICE_S = 0.2
