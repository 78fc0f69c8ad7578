"""What is put to an implementation: the shapes that docstrings promise, and inputs that can tell right from wrong."""
