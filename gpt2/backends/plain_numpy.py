"""The reference as it reads: every score by the functions of reference/model.py, for those who change or watch them."""

from gpt2.backends.numpy_backend import NumPyDecoder, NumPyModel
from gpt2.backends.protocol import Array
from reference import model


class PlainNumPyModel(NumPyModel):
    """A GPT-2 of the reference that runs its plain functions alone: what `--mode plain` asks for."""

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of every next token."""
        return model.language_model(self.params, ids, self.config, attention_mask, position_ids)[0]

    def decoder(self, batch_size: int, length: int) -> "PlainNumPyDecoder":
        """Start a batch."""
        return PlainNumPyDecoder(self, batch_size, length)


class PlainNumPyDecoder(NumPyDecoder):
    """A batch being continued with `past`: keys and values of what was read, joined to those of what is new."""

    def _scores(self, ids: Array, position_ids: Array) -> Array:
        """Scores of every new token, (B, T, V); the cache takes in keys and values."""
        end = self._slot + ids.shape[1]
        past = [(k[:, :, : self._slot], v[:, :, : self._slot]) for k, v in self._cache] if self._slot else None
        logits, presents = model.language_model(
            self._model.params, ids, self._model.config, self._attention_mask[:, :end], position_ids, past
        )
        for cached, present in zip(self._cache, presents, strict=True):
            for kept, new in zip(cached, present, strict=True):
                kept[:, :, :end] = new
        return logits
