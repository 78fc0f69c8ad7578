"""`python -m gpt2` is the command `gpt2`."""

from gpt2.commands.main import main

main()
