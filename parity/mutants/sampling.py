"""Planted bugs of choosing the next token."""

from parity.mutants.base import Edit, Mutant

SAMPLING = (
    Mutant(
        "the likeliest over the batch",
        "argmax over the wrong axis.",
        (Edit("reference.generate.greedy", "np.argmax(logits, axis=-1)", "np.argmax(logits, axis=0)"),),
        ("generate.greedy",),
    ),
    Mutant(
        "the last of equals",
        "Of equal scores, the highest id is chosen. In 16 bits, scores are often equal.",
        (
            Edit(
                "reference.generate.greedy",
                "np.argmax(logits, axis=-1)",
                "logits.shape[-1] - 1 - np.argmax(logits[:, ::-1], axis=-1)",
            ),
        ),
        ("generate.greedy",),
        dtype="float16",
    ),
    Mutant(
        "top-k keeps one more",
        "<= for <: mesh-transformer-jax, issue 164.",
        (
            Edit(
                "reference.generate._likeliest_first",
                "np.arange(scores.shape[-1]) < top_k",
                "np.arange(scores.shape[-1]) <= top_k",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "top-p without the token that crosses",
        "cumsum <= p drops the token that reaches p: esm, pull request 360; reasoning-from-scratch, issue 164.",
        (
            Edit(
                "reference.generate._likeliest_first",
                "np.where(likelier < top_p",
                "np.where(likelier + probabilities <= top_p",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "temperature applied twice",
        "Once by the caller, once by the sampler: RL-Kernel, issue 81.",
        (
            Edit(
                "reference.generate._likeliest_first",
                "np.array(temperature, logits.dtype)",
                "np.array(temperature**2, logits.dtype)",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "temperature multiplied",
        "The scores are multiplied by the temperature, not divided.",
        (
            Edit(
                "reference.generate._likeliest_first",
                "axis=-1) / np.array(temperature,",
                "axis=-1) * np.array(temperature,",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "temperature after the softmax",
        "Probabilities are divided by the temperature: after normalising to sum 1 again, it has no effect.",
        (
            Edit("reference.generate._likeliest_first", " / np.array(temperature, logits.dtype)", ""),
            Edit(
                "reference.generate._likeliest_first",
                "probabilities = softmax(scores)",
                "probabilities = softmax(scores) / np.array(temperature, logits.dtype)",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "the chance of what was cut off",
        "The random number is compared with a sum that does not reach 1: the cut-off tail goes to the last id kept.",
        (
            Edit(
                "reference.generate.sample",
                "uniform[:, None].astype(logits.dtype) * cumulated[:, -1:]",
                "uniform[:, None].astype(logits.dtype)",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "the rank for the id",
        "The index in sorted order is returned as the id.",
        (
            Edit(
                "reference.generate.sample",
                "return np.take_along_axis(order, rank[:, None], axis=-1)[:, 0]",
                "return rank",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "equals in reverse order",
        "The sort is reversed: of equal scores, which are frequent in 16 bits, the last id comes first.",
        (
            Edit(
                "reference.generate._likeliest_first",
                'np.argsort(-logits, axis=-1, kind="stable")',
                'np.argsort(logits, axis=-1, kind="stable")[:, ::-1]',
            ),
        ),
        ("generate.sample",),
        dtype="float16",
        beyond_laws="Which of two equal ids comes first is a convention: in either order, both keep their chance.",
    ),
    Mutant(
        "typical keeps the likeliest",
        "Ids are ordered by their surprise, not by how far it is from the mean: typical_p becomes another top_p.",
        (
            Edit(
                "reference.generate._typical",
                "np.abs(below - (shares * below).sum(axis=-1, keepdims=True))",
                "(shares * below).sum(axis=-1, keepdims=True) - below",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "every id weighs alike in the mean surprise",
        "The mean is taken over the ids, not over what is drawn: the many unlikely ids become the typical ones.",
        (
            Edit(
                "reference.generate._typical",
                "(shares * below).sum(axis=-1, keepdims=True)",
                "below.mean(axis=-1, keepdims=True)",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "as many ids as are kept",
        "The walk ends after as many ids as are kept. But typical_p keeps ids behind a likelier one that it cuts off.",
        (
            Edit(
                "reference.generate.sample",
                "np.max((probabilities > 0) * np.arange(probabilities.shape[-1]), axis=-1)",
                "(probabilities > 0).sum(axis=-1) - 1",
            ),
        ),
        ("generate.sample",),
    ),
    Mutant(
        "typical without the id that crosses",
        "The id that reaches typical_p is dropped, as in the same mistake with top-p.",
        (Edit("reference.generate._typical", "nearer < typical_p", "nearer + shares <= typical_p"),),
        ("generate.sample",),
    ),
)
