"""The commands of `gpt2`, one file per command or group of commands; main.py collects them."""
