"""The scoring daemon: prompts in, one model out, with the evidence for it."""
