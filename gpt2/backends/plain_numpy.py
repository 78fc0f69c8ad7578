"""NumPy's mode "plain": the functions of reference/model.py compute all logits, so that edits to them take effect."""

from gpt2.backends.numpy_backend import NumPyDecoder, NumPyModel
from gpt2.backends.protocol import Array
from reference import model


class PlainNumPyModel(NumPyModel):
    """A GPT-2 that runs only the plain functions of the reference: `--mode plain`."""

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of the next token at every position."""
        return model.language_model(self.params, ids, self.config, attention_mask, position_ids)[0]

    def decoder(self, batch_size: int, length: int) -> "PlainNumPyDecoder":
        """A decoder for a new batch."""
        return PlainNumPyDecoder(self, batch_size, length)


class PlainNumPyDecoder(NumPyDecoder):
    """Continues a batch with `past`: the keys and values already read, concatenated with the new ones."""

    def _scores(self, ids: Array, position_ids: Array) -> Array:
        """Logits after every new token, (B, T, V); adds keys and values to the cache."""
        end = self._slot + ids.shape[1]
        past = [(k[:, :, : self._slot], v[:, :, : self._slot]) for k, v in self._cache] if self._slot else None
        logits, presents = model.language_model(
            self._model.params, ids, self._model.config, self._attention_mask[:, :end], position_ids, past
        )
        for cached, present in zip(self._cache, presents, strict=True):
            for kept, new in zip(cached, present, strict=True):
                kept[:, :, :end] = new
        return logits
