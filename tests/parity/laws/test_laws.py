"""The laws: each holds on both engines, and a fault planted for it breaks it, so that none is one that cannot fail."""

from collections.abc import Iterator

import numpy as np
import pytest

from gpt2.backends import Backend, NumPyBackend, get_backend, numpy_dtype
from parity.check import draw, rules
from parity.laws import base
from parity.laws.base import LAWS, Law
from parity.mutants.base import Twin
from parity.mutants.places import ATTENTION, ENGINE, FAST, GENERATE, MODEL, OPS
from parity.verdict.trial import Trial
from parity.verdict.verdict import Verdict

NEXT_TOKEN_SEEN = ATTENTION("key_length - query_length, dtype", "key_length - query_length + 1, dtype")
CUT_BUT_NOT_MOVED = ATTENTION(
    "x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)",
    "x.reshape(len(x), n_head, x.shape[1], -1)",
)
DEALT_IN_TURN = ATTENTION(
    "x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)",
    "x.reshape(*x.shape[:-1], -1, n_head).transpose(0, 3, 1, 2)",
)
SCALED_BY_ALL_CHANNELS = ATTENTION("math.sqrt(config.head_size)", "math.sqrt(config.n_embd)")
REFUSAL = 'raise ValueError("the new weights must have the names and shapes of the old ones")\n        '
SCORES = "return fast.language_model_fast(self.fast_params, ids, self.config, attention_mask, position_ids)"
# A fault that breaks each law.
FAULTS = {
    "a_product_turned_is_the_product_turned_round": OPS("np.matmul(a, b)", "np.matmul(a, b[:1])"),
    "conv1d_moves_channels": OPS("(matmul(rows, weight) + bias)", "matmul(rows, weight)"),
    "conv1d_adds_up": OPS("matmul(rows, weight) + bias", "np.abs(matmul(rows, weight)) + bias"),
    "embedding_is_a_look_up": OPS("weight[ids]", "weight[ids - 1]"),
    "softmax_forgets_a_shift": OPS("np.exp(x - x.max(axis=-1, keepdims=True))", "np.exp(x)"),
    "softmax_gives_shares": OPS("weights.sum(axis=-1", "weights.sum(axis=-2"),
    "softmax_undoes_the_logarithm": OPS("np.exp(x - x.max", "np.exp2(x - x.max"),
    "layer_norm_normalises": OPS("np.sqrt(variance + eps)", "(np.sqrt(variance) + eps)"),
    "layer_norm_forgets_shift_and_scale": OPS('centred = x - observe("mean", _mean(x))', "centred = x"),
    "layer_norm_applies_gain_and_bias_last": OPS(
        "* weight + bias\n\n\n@gradients_rounded", "* (1 + weight) + bias\n\n\n@gradients_rounded"
    ),
    "an_activation_less_its_mirror_image_is_x": OPS("0.044715 * (x * x * x)", "0.044715 * (x * x)"),
    "activations_have_known_values": OPS("0.044715 * (x", "0.044175 * (x"),
    "rows_are_computed_alone": OPS(
        "_mean(centred * centred)", "np.mean(centred * centred, axis=(-2, -1), keepdims=True)"
    ),
    "heads_are_neighbouring_channels": DEALT_IN_TURN,
    "keys_are_seen_up_to_the_query": NEXT_TOKEN_SEEN,
    "hidden_keys_get_no_weight": ATTENTION(
        "visible, scores, np.array(mask_value(scores.dtype)", "visible, scores, np.array(-1e4"
    ),
    "the_first_token_sees_itself_alone": NEXT_TOKEN_SEEN,
    "equal_values_pass_unchanged": ATTENTION(
        "softmax(masked_scores)", "softmax(masked_scores.swapaxes(2, 3)).swapaxes(2, 3)"
    ),
    "the_bias_of_the_keys_is_forgotten": ATTENTION("q, k, v = np.split", "k, q, v = np.split"),
    "a_head_minds_its_own_channels": CUT_BUT_NOT_MOVED,
    "the_past_has_no_order": ATTENTION("[:, None, None, :]", "[:, None, None, ::-1]"),
    "scores_are_divided_by_the_root_of_the_head_size": SCALED_BY_ALL_CHANNELS,
    "scores_of_higher_precision_change_rounding_alone": ATTENTION(
        "    if config.reorder_and_upcast_attn and",
        "    if config.reorder_and_upcast_attn:\n        q = q / np.array(config.head_size, q.dtype)\n"
        "    if config.reorder_and_upcast_attn and",
    ),
    "fast_forms_are_the_plain_ones": FAST("q, k, v, hidden, attention_scale(config, layer)", "q, k, v, hidden, 1.0"),
    "the_mlp_treats_each_token_alone": MODEL(
        'c_fc", conv1d(x, **params["c_fc"])', 'c_fc", conv1d(x - x.mean(axis=(0, 1)), **params["c_fc"])'
    ),
    "a_silent_block_adds_its_last_biases": MODEL('attn_residual", x + attended', 'attn_residual", normed + attended'),
    "a_block_forgets_a_shift_of_all_channels": MODEL('ln_1", layer_norm(x, **params["ln_1"], eps=eps)', 'ln_1", x'),
    "causality": FAST("np.tri(query_length, key_length, slot", "np.tri(query_length, key_length, slot + 1"),
    "pads_are_unseen": ATTENTION(
        "visible if attention_mask is None else visible & (attention_mask != 0)[:, None, None, :]", "visible"
    ),
    "a_sequence_of_pads_disturbs_nobody": ATTENTION(
        "visible, scores, np.array(mask_value(scores.dtype)", "visible, scores, np.array(-np.inf"
    ),
    "past_and_rest_make_the_whole": ATTENTION(
        "np.concatenate((past[0], k), axis=2)", "np.concatenate((k, past[0]), axis=2)"
    ),
    "a_decoder_reads_in_pieces": FAST("slot : slot + x.shape[1]", ": x.shape[1]"),
    "sequences_do_not_meet": FAST("hidden[b % len(hidden), heads]", "hidden[0, heads]"),
    "pads_at_the_ends_change_nothing": FAST("if position_ids is None:", "if True:"),
    "the_classifier_reads_the_last_token": MODEL(
        "np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)", "np.full(len(ids), ids.shape[1] - 1)"
    ),
    "labels_are_names": MODEL(
        'unembedding(x, params["score"]["weight"])', 'unembedding(x, params["score"]["weight"][::-1])'
    ),
    "channels_heads_and_units_have_no_order": DEALT_IN_TURN,
    "ids_are_names": FAST('head["weight"].T', 'np.roll(head["weight"], 1, axis=0).T'),
    "tokens_and_positions_are_alike": MODEL("tokens + positions", "tokens + positions + positions"),
    "positions_count_from_the_end_of_the_past": MODEL("0 if past is None else past[0][0].shape[2]", "0"),
    "final_states_have_mean_0": MODEL('layer_norm(x, **params["ln_f"], eps=config.layer_norm_epsilon)', "x"),
    "gains_and_biases_fold_into_the_next_weights": OPS(
        "* weight + bias\n\n\n@gradients_rounded", "* weight\n\n\n@gradients_rounded"
    ),
    "a_tied_head_is_wte": FAST('head = params["wte"] if', 'head = {"weight": params["wte"]["weight"] / 2} if'),
    "a_silent_head_adds_nothing": SCALED_BY_ALL_CHANNELS,
    "four_times_the_channels_double_the_scores": ATTENTION("math.sqrt(config.head_size)", "float(config.head_size)"),
    "a_silent_layer_can_be_left_out": FAST(
        'in enumerate(params["h"])', 'in enumerate(params["h"][:1] * config.n_layer)'
    ),
    "layers_are_counted_from_one": ATTENTION("scale * (layer + 1)", "scale * max(layer, 1)"),
    "dropout_thins_out": OPS("np.where(keep, x / (1 - rate)", "np.where(keep, x * (1 - rate)"),
    "a_block_whose_branches_are_left_out_passes_x": MODEL(
        'dropout(projected, part(keep, "c_proj"), config.resid_pdrop)\n\n\ndef mlp_vjp', "projected\n\n\ndef mlp_vjp"
    ),
    "what_is_not_scored_does_not_count": OPS(
        "-np.sum(np.where(scored, chosen, 0)) / np.array(max(scored.sum(), 1), wide.dtype)",
        "-np.mean(np.where(scored, chosen, 0))",
    ),
    "scores_of_a_row_are_pulled_apart": OPS("np.sum(grad, axis=-1, keepdims=True)", "np.sum(grad)"),
    "gradients_are_tangents": OPS("(g - shift - n * scale) / deviation", "(g - shift) / deviation"),
    "gradients_of_the_loss_are_tangents": OPS("(g - shift - n * scale) / deviation", "(g - shift) / deviation"),
    "gradients_add_up": OPS("np.sum(grad * y, axis=-1", "np.max(grad * y, axis=-1"),
    "gradients_of_a_block_add_up": MODEL(
        'observe("rounding", grad + d_branch)', 'observe("rounding", grad + np.abs(d_branch))'
    ),
    "gradients_grow_with_the_loss": OPS("np.where(scored, -grad /", "np.where(scored, -np.sign(grad) /"),
    "no_score_asks_what_comes_later": MODEL(
        "embedding_vjp(d_x, np.broadcast_to", "embedding_vjp(np.cumsum(d_x, axis=1), np.broadcast_to"
    ),
    "a_tied_head_and_the_embeddings_share_a_gradient": MODEL('observe("rounding", shared + d_head)', "d_head"),
    "the_bias_of_the_keys_has_no_gradient": ATTENTION(
        "for d_heads in (d_q, d_k, d_v)", "for d_heads in (d_k, d_q, d_v)"
    ),
    "an_engine_is_the_plain_model": FAST("0.044715 *", "0.044175 *"),
    "the_same_call_gives_the_same_bits": MODEL(
        'conv1d(h, **params["c_proj"])',
        'conv1d(h, **params["c_proj"]) * np.random.default_rng().random(h.shape[:2] + (1,))',
    ),
    "assigned_weights_are_used": ENGINE(
        f"{REFUSAL}self._place(parameters)", f"{REFUSAL}self.params = nest(dict(parameters))"
    ),
    "assigned_weights_reach_the_classifier": ENGINE(f"{REFUSAL}self._place(parameters)", REFUSAL.rstrip()),
    "results_do_not_change_afterwards": ENGINE(
        SCORES,
        SCORES.replace("return", "found =")
        + '\n        kept = self.__dict__.setdefault("kept", found)\n        kept[...] = found\n        return kept',
    ),
    "decoders_do_not_meet": ENGINE(
        "fast.make_cache(owner.config, batch_size, length, owner.dtype)",
        'owner.__dict__.setdefault("cache", fast.make_cache(owner.config, batch_size, length, owner.dtype))',
    ),
    "a_decoder_chooses_by_its_scores": ENGINE("generate.greedy(self._logits)", "generate.greedy(self._logits[::-1])"),
    "results_have_the_promised_shape_and_dtype": OPS("return centred /", "return centred.astype(np.float64) /"),
    "greedy_is_the_first_of_the_highest": GENERATE(
        "np.argmax(logits, axis=-1)", "logits.shape[-1] - 1 - np.argmax(logits[..., ::-1], axis=-1)"
    ),
    "sampling_from_one_id_is_greedy": GENERATE("< top_k, scores", "<= top_k, scores"),
    "temperature_divides_the_scores": GENERATE(
        "/ np.array(temperature, logits.dtype)", "/ np.array(temperature**2, logits.dtype)"
    ),
    "sampling_walks_from_the_likeliest": GENERATE("np.argsort(-logits", "np.argsort(logits"),
    "shares_of_numbers_are_probabilities": GENERATE("uniform[:, None].astype", "uniform[:, None].__pow__(2).astype"),
}

OWN = [law for law in LAWS if law.holds.__module__ == base.__name__]  # those of training have tests of their own
# In float16 no remainder is far above its noise.
ROUNDED_AWAY = {law.name for law in OWN if law.name.endswith("are_tangents")}

by_law = pytest.mark.parametrize("law", OWN, ids=lambda law: law.name)


def verdicts(law: Law, backend: Backend, examples: int, first: int = 0) -> Iterator[tuple[str, Verdict]]:
    """Each verdict of a law on that many cases, from the first one on, with the case in words."""
    rule = rules()[f"laws.{law.name}"]
    for case in draw(rule, numpy_dtype(backend.dtype), first + examples)[first:]:
        for verdict in law.holds(Trial(case, backend)):
            yield case.describe(), verdict


@by_law
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_law_holds_of_the_reference(law: Law, dtype: str) -> None:
    found = list(verdicts(law, NumPyBackend(dtype=dtype), 15))
    assert bool(found) != (dtype == "float16" and law.name in ROUNDED_AWAY)
    for case, verdict in found:
        assert verdict.agrees, f"{verdict.explain()} ({case})"


@by_law
def test_a_law_holds_of_mindspore(law: Law) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    for case, verdict in verdicts(law, get_backend("mindspore", mode="pynative"), 3, first=1):  # first is the smallest
        assert verdict.agrees, f"{verdict.explain()} ({case})"


def test_there_is_a_fault_for_each_law_and_no_other() -> None:
    assert list(FAULTS) == [law.name for law in OWN]


@by_law
def test_a_planted_fault_breaks_the_law(law: Law) -> None:
    backend = Twin(law.name, (FAULTS[law.name],)).backend()
    with np.errstate(all="ignore"):
        assert any(not verdict.agrees for _, verdict in verdicts(law, backend, 100))


@by_law
def test_a_law_has_a_statement_and_a_proof_in_a_paragraph_each(law: Law) -> None:
    for paragraph in (law.statement, law.proof):
        assert paragraph.endswith((".", ")"))
        assert "\n\n" not in paragraph


def test_laws_judge_a_backend_by_the_functions_that_it_offers() -> None:
    class EngineAlone(NumPyBackend):
        def call(self, function: str, arguments: object) -> None:
            raise NotImplementedError(function)

    by_name = {law.name: law for law in LAWS}
    for name in (
        "causality",
        "pads_are_unseen",
        "positions_count_from_the_end_of_the_past",
        "an_engine_is_the_plain_model",
    ):
        assert list(verdicts(by_name[name], EngineAlone(), 10))
    with pytest.raises(NotImplementedError, match=r"ops\.relu|ops\.gelu_new"):
        list(verdicts(by_name["activations_have_known_values"], EngineAlone(), 1))
