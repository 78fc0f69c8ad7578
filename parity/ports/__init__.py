"""Other people's code as backends: one function, or a whole model by its own modules, on any framework."""
