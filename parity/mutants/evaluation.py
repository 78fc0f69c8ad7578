"""Planted bugs of evaluation: spans, windows, scores, files, prompts, answers."""

from parity.mutants.base import Edit, Mutant
from parity.mutants.places import (
    ALIKE,
    ANSWERS,
    CLOZE,
    CONTINUED,
    LAST_WORD,
    MEANS,
    PERPLEXITY,
    PROMPTS,
    READ,
    ROUGE,
    SENTENCES,
    SPANS,
    STRIDES,
    UNTOLD,
)

OF_SPANS = (
    Mutant(
        "the first scored token off by one",
        "The logits of a token are taken for its own prediction, not for that of the next.",
        (
            Edit(
                "gpt2.evaluation.likelihood.score",
                "logits[span.first - 1 : len(span.ids) - 1]",
                "logits[span.first : len(span.ids)]",
            ),
        ),
        (SPANS,),
    ),
    Mutant(
        "logarithms to base 2",
        "Bits are wanted in one place, and the logarithm is changed in all.",
        (
            Edit(
                "gpt2.evaluation.likelihood._score",
                "log_softmax(wide)[np.arange(len(targets)), targets]",
                "log_softmax(wide)[np.arange(len(targets)), targets] / np.log(2)",
            ),
        ),
        (SPANS, STRIDES),
    ),
    Mutant(
        "logits for log-probabilities",
        "The softmax is forgotten: the likeliest token stays the likeliest, so that accuracy looks right.",
        (Edit("gpt2.evaluation.likelihood._score", "log_softmax(wide)[", "wide["),),
        (SPANS, STRIDES),
    ),
    Mutant(
        "rows padded on the left",
        "As for generation: positions count the pads, and the logits are read at the beginning of the row.",
        (
            Edit(
                "gpt2.evaluation.likelihood.score",
                "row[: len(span.ids)] = span.ids",
                "row[len(row) - len(span.ids) :] = span.ids",
            ),
        ),
        (SPANS,),
    ),
    Mutant(
        "the last spans lost",
        "Spans that do not fill a batch are left out.",
        (
            Edit(
                "gpt2.evaluation.likelihood.score",
                "range(0, len(spans), rows)",
                "range(0, len(spans) // rows * rows, rows)",
            ),
        ),
        (SPANS, STRIDES),
    ),
    Mutant(
        "tokens of overlapping windows scored twice",
        "Every window scores all it reads: a token counts once with much and once with little before it.",
        (
            Edit(
                "gpt2.evaluation.likelihood.windows",
                "result.append((begin, first, end))",
                "result.append((begin, begin + 1, end))",
            ),
        ),
        (STRIDES,),
    ),
    Mutant(
        "the first token of each window unscored",
        "Each window's first scored token is skipped, as the text's first must be.",
        (Edit("gpt2.evaluation.likelihood.windows", "scored = end\n", "scored = end + 1\n"),),
        (STRIDES,),
    ),
    Mutant(
        "the last window left out",
        "A window that is not full is dropped.",
        (
            Edit(
                "gpt2.evaluation.likelihood.windows",
                "        if first < end:\n",
                "        if first < end and (begin == 0 or end - begin == context):\n",
            ),
        ),
        (STRIDES,),
    ),
    Mutant(
        "windows without an overlap",
        "The stride is ignored: the first tokens of a window are predicted from almost nothing.",
        (
            Edit(
                "gpt2.evaluation.likelihood.windows",
                "for begin in range(0, tokens, stride):",
                "for begin in range(0, tokens, context - 1):",
            ),
        ),
        (STRIDES,),
    ),
    Mutant(
        "a window's first token scored",
        "Where windows do not overlap, the first token of each is scored by the scores at its end: index -1.",
        (Edit("gpt2.evaluation.likelihood.windows", "max(scored, begin + 1)", "scored"),),
        (STRIDES,),
    ),
    Mutant(
        "spans cut at their end",
        "The text is truncated as tokenizers do: what is to be scored falls off.",
        (
            Edit(
                "gpt2.evaluation.likelihood.continuation",
                "return Span(ids[cut:], first - cut)",
                "return Span(ids[: len(ids) - cut], min(first, len(ids) - cut - 1))",
            ),
        ),
        (CONTINUED, CLOZE),
    ),
    Mutant(
        "a cut span scored from where it was",
        "The ids are cut, the place of the first scored one is not moved.",
        (Edit("gpt2.evaluation.likelihood.continuation", "Span(ids[cut:], first - cut)", "Span(ids[cut:], first)"),),
        (CONTINUED,),
    ),
    Mutant(
        "special tokens inside a continuation",
        "The tokenizer's default adds [CLS] and [SEP]: a [SEP] is scored.",
        (
            Edit(
                "gpt2.evaluation.likelihood.continuation",
                "encode_prompt(model.tokenizer, before + after)",
                "model.tokenizer.encode(before + after).ids",
            ),
        ),
        (CONTINUED,),
    ),
    Mutant(
        "before and after encoded apart",
        "Two lists of tokens are joined: a word across the two has tokens that it never has in text.",
        (
            Edit(
                "gpt2.evaluation.likelihood.continuation",
                "encode_prompt(model.tokenizer, before + after)",
                "encode_prompt(model.tokenizer, before) + model.tokenizer.encode(after, add_special_tokens=False).ids",
            ),
        ),
        (CONTINUED,),
    ),
)

OF_LIKELIHOOD_TASKS = (
    Mutant(
        "perplexity of words per token",
        "The loss is divided by tokens where the paper divides by words.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks.Perplexity.judge",
                "whole / max(1, len(text.split()))",
                "whole / count",
            ),
        ),
        (PERPLEXITY,),
    ),
    Mutant(
        "the first token counted",
        "Nothing predicts it: its loss is missing in the sum, but it counts.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks.Perplexity.judge",
                "loss, count = -float(scored.sum()), len(scored)",
                "loss, count = -float(scored.sum()), len(scored) + 1",
            ),
        ),
        (PERPLEXITY,),
    ),
    Mutant(
        "bits that are nats",
        "The natural logarithm is not divided by log 2.",
        (Edit("gpt2.evaluation.likelihood_tasks.Perplexity.judge", "whole / math.log(2)", "whole"),),
        (PERPLEXITY,),
    ),
    Mutant(
        "characters for bytes",
        "In English they are the same.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks.Perplexity.judge",
                "bits / len(text.encode())",
                "bits / len(text)",
            ),
        ),
        (PERPLEXITY,),
    ),
    Mutant(
        "one right token makes a word right",
        "any for all.",
        (Edit("gpt2.evaluation.likelihood_tasks.Lambada.judge", "likeliest.all()", "likeliest.any()"),),
        (LAST_WORD,),
    ),
    Mutant(
        "last words per token",
        "The mean over the tokens of a word: long words get cheaper.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks.Lambada.judge",
                "scored.log_probabilities.sum()",
                "scored.log_probabilities.mean()",
            ),
        ),
        (LAST_WORD,),
    ),
    Mutant(
        "candidates by the mean of their tokens",
        "Normalised by length, as some leaderboards do: long candidates win.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks.ChildrensBookTest.judge",
                "log_probabilities.sum()",
                "log_probabilities.mean()",
            ),
        ),
        (CLOZE,),
    ),
    Mutant(
        "the rest of the sentence not scored",
        "The candidate alone is scored: what follows the blank says most about it.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks._fillings",
                '{space}{candidate}{cloze.after}"',
                '{space}{candidate}"',
            ),
        ),
        (CLOZE,),
    ),
    Mutant(
        "each candidate after a text of its own",
        "A longer candidate pushes more of the beginning out of the context, and is judged on another text.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks._fillings",
                "[Span(span.ids[span.first - shared :], shared) for span in spans]",
                "spans",
            ),
        ),
        (CLOZE,),
    ),
)

OF_READING = (
    Mutant(
        "the last word taken out of the whole passage",
        "str.replace removes it wherever it stands; in LAMBADA it mostly stands there before.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks._passage",
                "text.rstrip().removesuffix(words[-1]).rstrip()",
                'text.replace(words[-1], "").rstrip()',
            ),
        ),
        (READ,),
    ),
    Mutant(
        "the query without its story",
        "The question is what has the blank, so only the question is read.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks._cloze",
                '" ".join([*sentences[:-1], query])',
                "query",
            ),
        ),
        (READ,),
    ),
    Mutant(
        "tokens of the Penn Treebank as text",
        "Spaces stand before full stops, as GPT-2 never saw them.",
        (Edit("gpt2.evaluation.likelihood_tasks._cloze", "for pattern, by in DETOKENIZE:", "for pattern, by in ():"),),
        (READ,),
    ),
    Mutant(
        "the first candidate taken for the answer",
        "Files of the test list the candidates in some order, and the answer in a column of its own.",
        (
            Edit(
                "gpt2.evaluation.likelihood_tasks.ChildrensBookTest.judge",
                '"right": chosen == cloze.answer',
                '"right": chosen == cloze.candidates[0]',
            ),
        ),
        (CLOZE,),
    ),
)

OF_METRICS = (
    Mutant(
        "ROUGE by its recall",
        "As its name says, and as DUC used it: longer answers score higher.",
        (Edit("gpt2.evaluation.metrics.rouge", ".fmeasure", ".recall"),),
        (ROUGE,),
    ),
    Mutant(
        "ROUGE of English letters alone",
        "rouge-score's own tokenizer drops all but a-z and 0-9: every Chinese summary scores 0.",
        (Edit("gpt2.evaluation.metrics.rouge", ", tokenizer=WordsAndCharacters()", ""),),
        (ROUGE,),
    ),
    Mutant(
        "words split at their vowel signs",
        "Python's \\w knows no combining marks: a Hindi word falls into its consonants.",
        (Edit("gpt2.evaluation.metrics", r"\p{{M}}\u200c\u200d", ""),),
        (ROUGE,),
    ),
    Mutant(
        "exact match to the letter",
        "Answers are compared without normalising: a full stop makes them wrong.",
        (
            Edit(
                "gpt2.evaluation.metrics.exact_match",
                "normalized(answer) == normalized(reference)",
                "answer == reference",
            ),
        ),
        (ANSWERS,),
    ),
    Mutant(
        "F1 of sets of words",
        "A word that is said twice counts once.",
        (
            Edit(
                "gpt2.evaluation.metrics._f1",
                "sum((Counter(answer) & Counter(reference)).values())",
                "len(set(answer) & set(reference))",
            ),
        ),
        (ANSWERS,),
    ),
    Mutant(
        "the first reference alone",
        "SQuAD has several right answers to a question.",
        (Edit("gpt2.evaluation.metrics.f1", "for reference in references)", "for reference in references[:1])"),),
        (ANSWERS,),
    ),
    Mutant(
        "no answer is never right",
        "A question of SQuAD 2 without an answer expects none: 0 shared of 0 words is a match.",
        (Edit("gpt2.evaluation.metrics._f1", "return 100.0 * (answer == reference)", "return 0.0"),),
        (ANSWERS,),
    ),
    Mutant(
        "articles count as words",
        "a, an and the are not removed.",
        (Edit("gpt2.evaluation.metrics.normalized", 'ARTICLE.sub(" ", plain)', "plain"),),
        (ANSWERS,),
    ),
)

OF_ANSWERS = (
    Mutant(
        "the question cut off",
        "The prompt is cut at its end, where the question stands.",
        (
            Edit(
                "gpt2.evaluation.generation_tasks.prompt_ids",
                "return head[: room - len(end)] + end",
                "return (head + end)[:room]",
            ),
        ),
        (PROMPTS,),
    ),
    Mutant(
        "no room for the answer",
        "A prompt may fill the context: there is no position for the new tokens.",
        (
            Edit(
                "gpt2.evaluation.generation_tasks.prompt_ids",
                "model.config.n_positions - new + 1 ",
                "model.config.n_positions ",
            ),
        ),
        (PROMPTS,),
    ),
    Mutant(
        "special tokens around a prompt",
        "The tokenizer's default closes the prompt with [SEP]: the answer is never begun.",
        (
            Edit(
                "gpt2.evaluation.generation_tasks.prompt_ids",
                "encode_prompt(model.tokenizer, sample.head + sample.tails[0])",
                "encode(model.tokenizer, sample.head + sample.tails[0])",
            ),
        ),
        (PROMPTS,),
    ),
    Mutant(
        "random numbers by the row of the batch",
        "Each batch begins with row 0: samples in the same row of different batches get the same numbers.",
        (Edit("gpt2.evaluation.generation_tasks.write", "first_row=first, ", ""),),
        (ALIKE,),
    ),
    Mutant(
        "prompts of a batch without their mask",
        "The pads on the left are read as text.",
        (Edit("gpt2.evaluation.generation_tasks.write", "attention_mask=mask, ", ""),),
        (ALIKE,),
    ),
    Mutant(
        "the end of text in an answer",
        "Decoded like any other token.",
        (
            Edit(
                "gpt2.evaluation.generation_tasks.write",
                "[i for i in new if i not in model.end_ids]",
                "[*new]",
            ),
        ),
        (ALIKE,),
    ),
    Mutant(
        "the whole continuation for an answer",
        "The model goes on with the next question, and all of it is compared with the answer.",
        (Edit("gpt2.evaluation.generation_tasks.Questions.judge", "answer = first_line(text)", "answer = text"),),
        (MEANS,),
    ),
    Mutant(
        "the first right answer alone",
        "Of several right answers one is passed on.",
        (
            Edit(
                "gpt2.evaluation.generation_tasks.Questions.judge",
                "metrics.exact_match(answer, sample.expected)",
                "metrics.exact_match(answer, sample.expected[:1])",
            ),
        ),
        (MEANS,),
    ),
    Mutant(
        "the answer in its own prompt",
        "The turns before a question include the question's own.",
        (Edit("gpt2.evaluation.generation_tasks._coqa", "turns[first:i]", "turns[first : i + 1]"),),
        (UNTOLD,),
    ),
    Mutant(
        "the examples translated as well",
        "Pairs that every prompt shows are scored too.",
        (
            Edit(
                "gpt2.evaluation.generation_tasks.Translation.read",
                "            for pair in pairs[self.examples :]\n",
                "            for pair in pairs\n",
            ),
        ),
        (UNTOLD,),
    ),
    Mutant(
        "no Chinese full stop",
        "Sentences end with English marks: a Chinese summary of three sentences is one.",
        (Edit("gpt2.evaluation.generation_tasks", "|(?<=[。！？])", ""),),
        (SENTENCES,),
    ),
)

EVALUATION = (*OF_SPANS, *OF_LIKELIHOOD_TASKS, *OF_READING, *OF_METRICS, *OF_ANSWERS)
