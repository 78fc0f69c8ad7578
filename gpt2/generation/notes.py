"""What a person is told beside a text."""

from collections.abc import Sequence


def end_of_context(new_ids: Sequence[Sequence[int]], finish_reasons: Sequence[str], context: int) -> str:
    """What to say of continuations of which some ended with "context"; empty if none did."""
    counts = [len(new) for new, reason in zip(new_ids, finish_reasons, strict=True) if reason == "context"]
    if not counts:
        return ""
    who = "" if len(new_ids) == 1 else f"{len(counts)} of {len(new_ids)} texts "
    after = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    return f"{who}stopped at the end of the context, {context} tokens, after {after} new one{'s' * (after != '1')}"
