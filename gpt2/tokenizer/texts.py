"""Encode text to ids and decode it, with the library `tokenizers`."""

import re
from collections.abc import Iterator, Sequence

from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers

from gpt2.errors import GPT2Error
from gpt2.tokenizer.training import END_OF_TEXT

PIECE = 2**16  # characters per call of the library, which needs 450 bytes for each
# A place where a GPT-2 word surely ends. Python's \S knows every kind of space that the library knows.
BREAK = re.compile(r"(?<=\S)(?=[ \n])")
# The WordPiece decoder puts spaces between tokens, which Chinese and Japanese do not have.
IDEOGRAPH = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
NEEDLESS_SPACE = re.compile(f"(?<=[{IDEOGRAPH}]) +| +(?=[{IDEOGRAPH}])")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
NO_TOKEN = " no token "  # in no vocabulary
ONE_TOKEN = Tokenizer(models.WordLevel({"a": 0}, "a")).encode("a")


def encode(tokenizer: Tokenizer, text: str, add_special_tokens: bool = True) -> list[int]:
    """The ids of a text, with the special tokens that the tokenizer adds (BERT's [CLS] and [SEP]).

    Raises GPT2Error if the text is not valid Unicode, or holds a character that the tokenizer has no token for.
    """
    return [i for _, piece in _encodings(tokenizer, text, add_special_tokens) for i in piece.ids]


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text that is to be continued: special tokens only before it, such as BERT's [CLS].

    A [SEP] after the text would end it. Raises GPT2Error as `encode` does.
    """
    return surroundings(tokenizer)[0] + encode(tokenizer, text, add_special_tokens=False)


def surroundings(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before a text and after it: those of [CLS] and of [SEP], for BERT's.

    Raises GPT2Error if it leaves the text out, or puts it in twice.
    """
    around = tokenizer.post_process(ONE_TOKEN)
    if around.special_tokens_mask.count(0) != 1:
        raise GPT2Error("the tokenizer's post_processor must keep a text once: expected one $A in its template")
    place = around.special_tokens_mask.index(0)
    return around.ids[:place], around.ids[place + 1 :]


def end_id(tokenizer: Tokenizer) -> int | None:
    """The id that ends a text: of what the tokenizer puts after it, BERT's [SEP], or of the end-of-text token."""
    closing = surroundings(tokenizer)[1]
    return closing[0] if closing else tokenizer.token_to_id(END_OF_TEXT)


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids, special tokens included. Between word pieces in Chinese and Japanese there are no spaces."""
    text = tokenizer.decode(ids, skip_special_tokens=False)
    return NEEDLESS_SPACE.sub("", text) if isinstance(tokenizer.decoder, decoders.WordPiece) else text


def without_opening(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """The ids without those that the tokenizer puts before a text, if they begin with them."""
    opening = surroundings(tokenizer)[0]
    return ids[len(opening) :] if ids[: len(opening)] == opening else ids


def encode_with_offsets(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids of a text, and the (start, end) characters of each, end excluded. Raises GPT2Error as `encode` does."""
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    for start, piece in _encodings(tokenizer, text, add_special_tokens=False):
        ids += piece.ids
        offsets += [(start + first, start + last) for first, last in piece.offsets]
    return ids, offsets


def _encodings(tokenizer: Tokenizer, text: str, add_special_tokens: bool) -> Iterator[tuple[int, Encoding]]:
    """For each piece of the text: the place of its first character, and its encoding."""
    start = 0
    for piece in _pieces(tokenizer, text):
        try:
            yield start, tokenizer.encode(piece, add_special_tokens=add_special_tokens)
        except (UnicodeEncodeError, TypeError) as error:  # the library rejects a lone surrogate
            raise GPT2Error(f"the text must be valid Unicode text, but is {_short(text)}") from error
        except Exception as error:  # a plain Exception, if a character has no token and there is no unknown token
            unknown = next((c for c in text if _lacks(tokenizer, c)), None)
            if unknown is None:
                raise GPT2Error(f"the tokenizer cannot encode {_short(text)}: {error}") from error
            raise GPT2Error(
                f"the tokenizer has no token for {unknown!r}: leave it out, or train a tokenizer that has one"
            ) from error
        except BaseException as error:
            if not is_panic(error):
                raise
            raise GPT2Error(f"the tokenizer cannot encode {_short(text)}: {error}") from error
        start += len(piece)


def id_count(tokenizer: Tokenizer) -> int:
    """The least vocab_size of a model that takes all its ids: one more than the last. Some below may be no token's."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def refuse_to_drop(tokenizer: Tokenizer) -> None:
    """Let the library fail where a vocabulary of byte pairs has no token for a character, which it would drop."""
    model = tokenizer.model
    drops = isinstance(model, models.BPE) and model.unk_token is None
    if drops and any(model.token_to_id(letter) is None for letter in pre_tokenizers.ByteLevel.alphabet()):
        model.unk_token = NO_TOKEN


def _lacks(tokenizer: Tokenizer, character: str) -> bool:
    """Whether a vocabulary has no token for a character; for its bytes, if it is one of bytes."""
    letters = character
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
        ((letters, _),) = BYTES.pre_tokenize_str(character)
    return any(tokenizer.token_to_id(letter) is None for letter in letters)


def is_panic(error: BaseException) -> bool:
    """Whether the library failed within: such an error is no Exception, and its class cannot be imported."""
    return type(error).__name__ == "PanicException"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _pieces(tokenizer: Tokenizer, text: str) -> Iterator[str]:
    """Split the text so that its ids stay the same; one piece, unless the tokenizer is known to allow a split."""
    start = 0
    while len(text) - start > PIECE and _works_by_words(tokenizer):
        found = BREAK.search(text, start + PIECE)
        if found is None:
            break
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def _works_by_words(tokenizer: Tokenizer) -> bool:
    """Whether the ids of a word depend on that word alone: true of GPT-2's tokenizer and of `train_tokenizer`'s."""
    cut, added = tokenizer.pre_tokenizer, tokenizer.get_added_tokens_decoder().values()
    plain = (
        tokenizer.normalizer is None
        and surroundings(tokenizer) == ([], [])
        and not any(token.lstrip or token.rstrip or BREAK.search(token.content) for token in added)
    )
    if isinstance(cut, pre_tokenizers.ByteLevel):
        return plain and cut.use_regex and not cut.add_prefix_space
    return plain and isinstance(cut, pre_tokenizers.Split) and isinstance(tokenizer.model, models.WordLevel)
