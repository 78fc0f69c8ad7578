"""What a model learns from and is judged by: files of records become rows of token ids."""
