"""A training program in the shape of karpathy/nanochat's, written for the tests.

It is run as `python -m scripts.base_train` or by torchrun, takes its settings by argparse, reads
its data below $NANOCHAT_BASE_DIR, seeds itself, and tells bits per byte and no validation loss.
"""

import argparse
import math
import os
import time

import torch
from nanochat.common import base_dir, compute_init, print0
from nanochat.gpt import GPT
from nanochat.text import batches

parser = argparse.ArgumentParser(description="Pretrain a very small model")
parser.add_argument("--device-type", default="")
parser.add_argument("--depth", type=int, default=2)
parser.add_argument("--num-iterations", type=int, default=20)
parser.add_argument("--matrix-lr", type=float, default=0.02)
parser.add_argument("--total-batch-size", type=int, default=256)
parser.add_argument("--eval-every", type=int, default=10)
parser.add_argument("--core-metric-every", type=int, default=2000)
parser.add_argument("--sample-every", type=int, default=2000)
args = parser.parse_args()

T = 16
world_size, device = compute_init(args.device_type)
model = GPT(args.depth).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=args.matrix_lr)
assert args.total_batch_size % (T * world_size) == 0
B = args.total_batch_size // (T * world_size)
print0(f"Parameters: {sum(p.numel() for p in model.parameters()):,}")
train = batches("train", B, T, device)


@torch.no_grad()
def evaluate_bpb():
    val = batches("val", B, T, device)
    losses = [model(*next(val)).item() for _ in range(4)]
    return sum(losses) / len(losses) / math.log(2)  # a token is a byte here


smooth_loss, min_val_bpb = 0.0, math.inf
for step in range(args.num_iterations + 1):
    last_step = step == args.num_iterations
    if last_step or step % args.eval_every == 0:
        val_bpb = evaluate_bpb()
        min_val_bpb = min(min_val_bpb, val_bpb)
        print0(f"Step {step:05d} | Validation bpb: {val_bpb:.6f}")
    if last_step:
        break
    t0 = time.time()
    loss = model(*next(train))
    loss.backward()
    if world_size > 1:
        for p in model.parameters():
            torch.distributed.all_reduce(p.grad)
            p.grad /= world_size
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    smooth_loss = 0.9 * smooth_loss + 0.1 * loss.item()
    dt = time.time() - t0
    told = smooth_loss / (1 - 0.9 ** (step + 1))
    print0(
        f"step {step:05d}/{args.num_iterations:05d} ({100 * step / args.num_iterations:.2f}%) | "
        f"loss: {told:.6f} | dt: {dt * 1000:.2f}ms | tok/sec: {int(args.total_batch_size / dt):,}"
    )

checkpoints = base_dir() / "base_checkpoints" / f"d{args.depth}"
if int(os.environ.get("RANK", "0")) == 0:
    checkpoints.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), checkpoints / f"model_{args.num_iterations:06d}.pt")
print0(f"Minimum validation bpb: {min_val_bpb:.6f}")
