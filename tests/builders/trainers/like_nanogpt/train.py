"""A training program in the shape of karpathy/nanoGPT's train.py, written for the tests.

Settings are globals that configurator.py overrides, the seed is written into the code, the data lie
in the tree as uint16 tokens, and what it learned goes to out_dir/ckpt.pt.
"""

import os
import pickle
import time
from pathlib import Path

import numpy as np
import torch
from model import GPT

out_dir = "out"
eval_interval = 10
log_interval = 1
eval_iters = 4
always_save_checkpoint = False
wandb_log = True
dataset = "shakespeare_char"
batch_size = 8
block_size = 16
n_layer = 1
n_embd = 16
learning_rate = 1e-3
max_iters = 20
device = "cuda"
exec(Path("configurator.py").read_text())

if wandb_log:
    raise SystemExit("wandb: no network here, and nobody to ask for a key")

seed_offset = int(os.environ.get("RANK", "0"))
os.makedirs(out_dir, exist_ok=True)
torch.manual_seed(1337 + seed_offset)

data_dir = os.path.join("data", dataset)
splits = {
    split: np.memmap(os.path.join(data_dir, f"{split}.bin"), dtype=np.uint16, mode="r")
    for split in ("train", "val")
}
with open(os.path.join(data_dir, "meta.pkl"), "rb") as file:
    vocab_size = pickle.load(file)["vocab_size"]


def get_batch(split):
    data = splits[split]
    starts = torch.randint(len(data) - block_size, (batch_size,))
    rows = [torch.from_numpy(data[i : i + block_size + 1].astype(np.int64)) for i in starts]
    batch = torch.stack(rows).to(device)
    return batch[:, :-1], batch[:, 1:]


@torch.no_grad()
def estimate_loss():
    model.eval()
    found = {}
    for split in splits:
        losses = [model(*get_batch(split)).item() for _ in range(eval_iters)]
        found[split] = sum(losses) / eval_iters
    model.train()
    return found


model = GPT(vocab_size, block_size, n_layer, n_embd).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
print(f"number of parameters: {sum(p.numel() for p in model.parameters()) / 1e6:.2f}M")

best_val_loss = 1e9
t0 = time.time()
for iter_num in range(max_iters + 1):
    if iter_num % eval_interval == 0:
        losses = estimate_loss()
        print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
        if losses["val"] < best_val_loss or always_save_checkpoint:
            best_val_loss = losses["val"]
            if iter_num > 0:
                print(f"saving checkpoint to {out_dir}")
                torch.save({"model": model.state_dict()}, os.path.join(out_dir, "ckpt.pt"))
    loss = model(*get_batch("train"))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    t1 = time.time()
    dt, t0 = t1 - t0, t1
    if iter_num % log_interval == 0:
        print(f"iter {iter_num}: loss {loss.item():.4f}, time {dt * 1000:.2f}ms, mfu -100.00%")
