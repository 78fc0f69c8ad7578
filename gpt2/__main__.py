"""`python -m gpt2` runs the command `gpt2`."""

from gpt2.commands.main import main

main()
