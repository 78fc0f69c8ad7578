"""GPT-2 on MindSpore, the twin of `reference`: the same files, the same public names, the same arguments."""
