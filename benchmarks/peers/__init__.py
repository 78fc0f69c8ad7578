"""Other implementations, each in a separate environment, and the protocol to call them."""
