"""The diagnosis of a failure: where it starts, its smallest input, and a script that reproduces it."""
