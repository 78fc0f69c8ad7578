"""Name the bug: which known mistake, put to the same inputs, gives the results that a backend gave."""
