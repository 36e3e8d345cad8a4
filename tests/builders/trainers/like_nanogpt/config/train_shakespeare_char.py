# Settings of a short run, as a file of settings is here: assignments.
max_iters = 30
wandb_log = False
