"""Other people's implementations in environments of their own, and how they are talked to."""
