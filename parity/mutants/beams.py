"""Planted bugs of beam search."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.places import ENDS, LOGS, LONGER, TWO

BEAMS = (
    Mutant(
        "all beams begin alike",
        "Without the -inf for all beams but the first, all num_beams beams write the same greedy text.",
        (
            Edit(
                "gpt2.generation.beams.search_beams",
                "totals = np.full((prompts, width), -np.inf, np.float32)",
                "totals = np.zeros((prompts, width), np.float32)",
            ),
        ),
        (TWO,),
    ),
    Mutant(
        "a finished beam goes on",
        "A finished text is collected but also remains a beam: texts continue after the stop id.",
        (
            Edit(
                "gpt2.generation.beams.search_beams",
                'generate.best_unfinished(totals, ended != "", width)',
                'generate.best_unfinished(totals, ended == "?", width)',
            ),
            Edit(
                "gpt2.generation.beams.search_beams",
                'take_rows(np.where(ended == "", totals, -np.inf), go_on)',
                "take_rows(totals, go_on)",
            ),
        ),
        (ENDS, TWO),
    ),
    Mutant(
        "no length penalty",
        "Finished beams are ranked by their sums: the shortest wins.",
        (
            Edit(
                "gpt2.generation.beams._collect",
                "generate.beam_score(totals, max(new.shape[2], 1), config.length_penalty)",
                "generate.beam_score(totals, max(new.shape[2], 1), 0.0)",
            ),
        ),
        (TWO, LOGS),
    ),
    Mutant(
        "the length penalty counts the prompt",
        "The length of all ids, not of the new ones: after a longer prompt, the same search ranks differently.",
        (
            Edit(
                "gpt2.generation.beams._collect",
                "    config: GenerationConfig,\n",
                "    config: GenerationConfig,\n    prompt: int = 0,\n",
            ),
            Edit(
                "gpt2.generation.beams.search_beams",
                "totals[:, top], ended[:, top], config)",
                "totals[:, top], ended[:, top], config, ids.shape[1])",
            ),
            Edit(
                "gpt2.generation.beams._collect",
                "max(new.shape[2], 1), config",
                "max(new.shape[2], 1) + prompt, config",
            ),
        ),
        (TWO, LOGS),
    ),
    Mutant(
        "as many candidates as beams",
        "Finished continuations take the places of those that could go on.",
        (
            Edit(
                "gpt2.generation.beams.search_beams",
                "count = min(max(2, 1 + len(config.stop_ids or ())), log_probs.shape[2]) * width",
                "count = width",
            ),
        ),
        (TWO,),
    ),
    Mutant(
        "early stopping ignored",
        "The search always waits until no beam can improve.",
        (
            Edit(
                "reference.generate.beams_may_improve",
                "return improves & np.isneginf(worst) if early_stopping is True else improves",
                "return improves",
            ),
        ),
        ("generate.beams_may_improve",),
        beyond_laws="When a search stops is a convention: with each setting, a correct search ends somewhere.",
    ),
    Mutant(
        "early stopping turned round",
        "The setting that should stop first searches longest.",
        (
            Edit(
                "gpt2.generation.beams.search_beams",
                "            config.early_stopping,\n",
                '            {True: "never", False: True}.get(config.early_stopping, False),\n',
            ),
        ),
        (LONGER,),
    ),
    Mutant(
        "beams not ranked",
        "Finished texts are returned in the order in which they finished.",
        (
            Edit(
                "gpt2.generation.beams._collect",
                "sorted(collected[i], key=lambda one: -one.score)[: config.num_beams]",
                "collected[i][: config.num_beams]",
            ),
        ),
        (TWO, LOGS),
    ),
)
