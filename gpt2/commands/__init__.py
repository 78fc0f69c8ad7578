"""The commands of `gpt2`, a file for each or for a few that belong together; main.py is where they meet."""
