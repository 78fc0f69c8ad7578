"""A port's own cache: what it returns as `past_key_values`, and takes back."""

from collections.abc import Mapping
from typing import Any


def cache_in(returned: Any, name: str) -> Any:
    """The cache in what a model returns: under that name, or as the second of several.

    Raises NotImplementedError if there is none.
    """
    if isinstance(returned, Mapping):
        cache = returned.get(name)
    elif hasattr(returned, name):
        cache = getattr(returned, name)
    else:
        cache = returned[1] if isinstance(returned, list | tuple) and len(returned) > 1 else None
    if cache is None:
        raise NotImplementedError(f"a cache: the model returns no {name}")
    return cache


def reordered(model: Any, cache: Any, rows: Any, batch_first: bool) -> Any:
    """The cache with a copy of sequence rows[i] as sequence i: by the port's own `reorder_cache`, or tensor by tensor.

    Raises NotImplementedError if it has no such method and is not made of tensors with the sequences first.
    """
    if hasattr(model, "_reorder_cache"):  # where transformers had it before its caches were classes
        return model._reorder_cache(cache, rows)
    if hasattr(cache, "reorder_cache"):
        changed = cache.reorder_cache(rows)
        return cache if changed is None else changed
    if not batch_first:
        raise NotImplementedError(f"another order of a cache of type {type(cache).__name__}")
    return _taken(cache, rows)


def is_batch_first(cache: Any, batch_size: int) -> bool:
    """Whether it is made of lists and tuples of tensors whose first axis is that of the sequences."""
    if isinstance(cache, list | tuple):
        return all(is_batch_first(part, batch_size) for part in cache)
    return tuple(getattr(cache, "shape", ()))[:1] == (batch_size,)


def _taken(cache: Any, rows: Any) -> Any:
    if isinstance(cache, list | tuple):
        return type(cache)(_taken(part, rows) for part in cache)
    return cache[rows]
