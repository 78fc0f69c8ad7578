"""The laws: each holds on both engines, and a fault planted for it breaks it, so that none is one that cannot fail."""

from collections.abc import Iterator

import numpy as np
import pytest

from gpt2.backends import Backend, NumPyBackend, get_backend, numpy_dtype
from parity.cases.contracts import SEEDED
from parity.check import draw, rules
from parity.laws.base import LAWS, Law
from parity.mutants.base import Edit, Twin
from parity.verdict.trial import Trial, decide
from parity.verdict.verdict import Verdict

NEXT_TOKEN_SEEN = Edit(
    "reference.attention.causal_bias", "key_length - query_length, dtype", "key_length - query_length + 1, dtype"
)
CUT_BUT_NOT_MOVED = Edit(
    "reference.attention.split_heads",
    "x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)",
    "x.reshape(len(x), n_head, x.shape[1], -1)",
)
DEALT_IN_TURN = Edit(
    "reference.attention.split_heads",
    "x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)",
    "x.reshape(*x.shape[:-1], -1, n_head).transpose(0, 3, 1, 2)",
)
SCALED_BY_ALL_CHANNELS = Edit(
    "reference.attention.attention_scale", "math.sqrt(config.head_size)", "math.sqrt(config.n_embd)"
)
REFUSAL = 'raise ValueError("the new weights must have the names and shapes of the old ones")\n        '
SCORES = "return fast.language_model_fast(self.fast_params, ids, self.config, attention_mask, position_ids)"
# A fault that breaks each law.
FAULTS = {
    "a_product_turned_is_the_product_turned_round": Edit(
        "reference.ops.matmul", "np.matmul(a, b)", "np.matmul(a, b[:1])"
    ),
    "conv1d_moves_channels": Edit("reference.ops.conv1d", "(matmul(rows, weight) + bias)", "matmul(rows, weight)"),
    "conv1d_adds_up": Edit(
        "reference.ops.conv1d", "matmul(rows, weight) + bias", "np.abs(matmul(rows, weight)) + bias"
    ),
    "embedding_is_a_look_up": Edit("reference.ops.embedding", "weight[ids]", "weight[ids - 1]"),
    "softmax_forgets_a_shift": Edit("reference.ops.softmax", "exp(x - x.max(axis=-1, keepdims=True))", "np.exp(x)"),
    "softmax_gives_shares": Edit("reference.ops.softmax", "weights.sum(axis=-1", "weights.sum(axis=-2"),
    "softmax_undoes_the_logarithm": Edit("reference.ops.softmax", "exp(x - x.max", "np.exp2(x - x.max"),
    "layer_norm_normalises": Edit("reference.ops.layer_norm", "np.sqrt(variance + eps)", "(np.sqrt(variance) + eps)"),
    "layer_norm_forgets_shift_and_scale": Edit("reference.ops.layer_norm", "centred = x - mean(x)", "centred = x"),
    "layer_norm_applies_gain_and_bias_last": Edit(
        "reference.ops.layer_norm", "* weight + bias", "* (1 + weight) + bias"
    ),
    "an_activation_less_its_mirror_image_is_x": Edit(
        "reference.ops.gelu_new", "0.044715 * (x * x * x)", "0.044715 * (x * x)"
    ),
    "activations_have_known_values": Edit("reference.ops.gelu_new", "0.044715 * (x", "0.044175 * (x"),
    "rows_are_computed_alone": Edit(
        "reference.ops.layer_norm",
        "(centred * centred).sum(axis=-1, keepdims=True) / x.shape[-1]",
        "np.mean(centred * centred, axis=(-2, -1), keepdims=True)",
    ),
    "heads_are_neighbouring_channels": DEALT_IN_TURN,
    "keys_are_seen_up_to_the_query": NEXT_TOKEN_SEEN,
    "hidden_keys_get_no_weight": Edit(
        "reference.attention.mask_scores",
        "visible, scores, np.array(mask_value(scores.dtype)",
        "visible, scores, np.array(-1e4",
    ),
    "the_first_token_sees_itself_alone": NEXT_TOKEN_SEEN,
    "equal_values_pass_unchanged": Edit(
        "reference.attention.attention_weights",
        "softmax(masked_scores)",
        "softmax(masked_scores.swapaxes(2, 3)).swapaxes(2, 3)",
    ),
    "the_bias_of_the_keys_is_forgotten": Edit(
        "reference.attention.queries_keys_values", "q, k, v = (split_heads", "k, q, v = (split_heads"
    ),
    "a_head_minds_its_own_channels": CUT_BUT_NOT_MOVED,
    "the_past_has_no_order": Edit("reference.attention.visible_keys", "[:, None, None, :]", "[:, None, None, ::-1]"),
    "scores_are_divided_by_the_root_of_the_head_size": SCALED_BY_ALL_CHANNELS,
    "scores_of_higher_precision_change_rounding_alone": Edit(
        "reference.attention.attention_weights",
        "    if config.reorder_and_upcast_attn and",
        "    if config.reorder_and_upcast_attn:\n        q = q / np.array(config.head_size, q.dtype)\n"
        "    if config.reorder_and_upcast_attn and",
    ),
    "fast_forms_are_the_plain_ones": Edit(
        "reference.fast.attention_fast", "scale, upcast = attention_scale(config, layer)", "scale, upcast = 1.0"
    ),
    "the_mlp_treats_each_token_alone": Edit(
        "reference.model.mlp",
        'c_fc", conv1d(x, **params["c_fc"])',
        'c_fc", conv1d(x - x.mean(axis=(0, 1)), **params["c_fc"])',
    ),
    "a_silent_block_adds_its_last_biases": Edit(
        "reference.model.block", 'attn_residual", x + attended', 'attn_residual", normed + attended'
    ),
    "a_block_forgets_a_shift_of_all_channels": Edit(
        "reference.model.block", '_norm(f"{at}.ln_1", x, params["ln_1"], config)', "x"
    ),
    "causality": Edit(
        "reference.fast.hidden_keys",
        "np.tri(query_length, key_length, slot",
        "np.tri(query_length, key_length, slot + 1",
    ),
    "pads_are_unseen": Edit(
        "reference.attention.visible_keys",
        "visible if attention_mask is None else visible & (attention_mask != 0)[:, None, None, :]",
        "visible",
    ),
    "a_sequence_of_pads_disturbs_nobody": Edit(
        "reference.attention.mask_scores",
        "visible, scores, np.array(mask_value(scores.dtype)",
        "visible, scores, np.array(-np.inf",
    ),
    "past_and_rest_make_the_whole": Edit(
        "reference.attention.attention", "np.concatenate((past[0], k), axis=2)", "np.concatenate((k, past[0]), axis=2)"
    ),
    "a_decoder_reads_in_pieces": Edit("reference.fast.attention_fast", "slot : slot + x.shape[1]", ": x.shape[1]"),
    "sequences_do_not_meet": Edit("reference.fast.attend", "hidden[b % len(hidden), heads]", "hidden[0, heads]"),
    "pads_at_the_ends_change_nothing": Edit("reference.fast.gpt2_fast", "if position_ids is None:", "if True:"),
    "the_classifier_reads_the_last_token": Edit(
        "reference.model.last_tokens",
        "np.max((attention_mask != 0) * np.arange(ids.shape[1]), axis=1)",
        "np.full(len(ids), ids.shape[1] - 1)",
    ),
    "labels_are_names": Edit(
        "reference.model.sequence_classifier",
        'unembedding(x, params["score"]["weight"])',
        'unembedding(x, params["score"]["weight"][::-1])',
    ),
    "channels_heads_and_units_have_no_order": DEALT_IN_TURN,
    "ids_are_names": Edit("reference.fast._scores", 'head["weight"].T', 'np.roll(head["weight"], 1, axis=0).T'),
    "tokens_and_positions_are_alike": Edit(
        "reference.model.embed", "tokens + positions", "tokens + positions + positions"
    ),
    "positions_count_from_the_end_of_the_past": Edit(
        "reference.model.gpt2", "0 if past is None else past[0][0].shape[2]", "0"
    ),
    "final_states_have_mean_0": Edit("reference.model.gpt2", '_norm("ln_f", x, params["ln_f"], config)', "x"),
    "gains_and_biases_fold_into_the_next_weights": Edit("reference.ops.layer_norm", "* weight + bias", "* weight"),
    "a_tied_head_is_wte": Edit(
        "reference.fast._scores", 'head = params["wte"] if', 'head = {"weight": params["wte"]["weight"] / 2} if'
    ),
    "a_silent_head_adds_nothing": SCALED_BY_ALL_CHANNELS,
    "four_times_the_channels_double_the_scores": Edit(
        "reference.attention.attention_scale", "math.sqrt(config.head_size)", "float(config.head_size)"
    ),
    "a_silent_layer_can_be_left_out": Edit(
        "reference.fast.gpt2_fast", 'in enumerate(params["h"])', 'in enumerate(params["h"][:1] * config.n_layer)'
    ),
    "layers_are_counted_from_one": Edit(
        "reference.attention.attention_scale", "scale * (layer + 1)", "scale * max(layer, 1)"
    ),
    "dropout_thins_out": Edit(
        "reference.ops._thin_out", "np.where(keep, x / (1 - rate)", "np.where(keep, x * (1 - rate)"
    ),
    "a_block_whose_branches_are_left_out_passes_x": Edit(
        "reference.model.mlp", 'dropout(projected, part(keep, "c_proj"), config.resid_pdrop)', "projected"
    ),
    "what_is_not_scored_does_not_count": Edit(
        "reference.ops._mean_surprise",
        "-np.sum(np.where(scored, log_probabilities, 0)) / count",
        "-np.mean(np.where(scored, log_probabilities, 0))",
    ),
    "scores_of_a_row_are_pulled_apart": Edit(
        "reference.gradients.ops.log_softmax_vjp", "np.sum(grad, axis=-1, keepdims=True)", "np.sum(grad)"
    ),
    "gradients_are_tangents": Edit(
        "reference.gradients.ops.layer_norm_vjp", "(g - shift - n * scale) / deviation", "(g - shift) / deviation"
    ),
    "gradients_of_the_loss_are_tangents": Edit(
        "reference.gradients.ops.layer_norm_vjp", "(g - shift - n * scale) / deviation", "(g - shift) / deviation"
    ),
    "gradients_add_up": Edit(
        "reference.gradients.ops.softmax_vjp", "np.sum(grad * y, axis=-1", "np.max(grad * y, axis=-1"
    ),
    "gradients_of_a_block_add_up": Edit(
        "reference.gradients.model.block_vjp",
        'observe("rounding", grad + d_branch)',
        'observe("rounding", grad + np.abs(d_branch))',
    ),
    "gradients_grow_with_the_loss": Edit(
        "reference.gradients.ops.cross_entropy_vjp", "np.where(scored, -grad /", "np.where(scored, -np.sign(grad) /"
    ),
    "no_score_asks_what_comes_later": Edit(
        "reference.gradients.model.gpt2_vjp",
        "embedding_vjp(d_x, np.broadcast_to",
        "embedding_vjp(np.cumsum(d_x, axis=1), np.broadcast_to",
    ),
    "a_tied_head_and_the_embeddings_share_a_gradient": Edit(
        "reference.gradients.model.language_model_vjp", 'observe("rounding", shared + d_head)', "d_head"
    ),
    "the_bias_of_the_keys_has_no_gradient": Edit(
        "reference.gradients.attention.attention_vjp",
        "for d_heads in (d_q, d_k, d_v)",
        "for d_heads in (d_k, d_q, d_v)",
    ),
    "an_engine_is_the_plain_model": Edit("reference.fast.gelu_new_fast", "0.044715 *", "0.044175 *"),
    "the_same_call_gives_the_same_bits": Edit(
        "reference.model.mlp",
        'conv1d(h, **params["c_proj"])',
        'conv1d(h, **params["c_proj"]) * np.random.default_rng().random(h.shape[:2] + (1,))',
    ),
    "a_classifier_is_its_last_stage": Edit(
        "gpt2.backends.numpy_backend.NumPyModel.classify", "attention_mask, position_ids)", "attention_mask)"
    ),
    "given_stages_replace_the_computed": Edit(
        "gpt2.backends.numpy_backend.NumPyModel.stages", "given.get(name, keep(name, x))", "keep(name, x)"
    ),
    "a_classifiers_gradients_are_those_of_its_loss": Edit(
        "reference.train.loss_and_gradients", "attention_mask, position_ids, keep", "None, position_ids, keep"
    ),
    "the_fast_update_is_the_plain_one": Edit("reference.fast.adamw_fast", "epsilon * root", "epsilon"),
    "earlier_texts_change_no_score": Edit(
        "gpt2.backends.numpy_backend.NumPyModel.logits",
        SCORES,
        "kept = self.__dict__.setdefault('kept', {}).setdefault(ids.shape, attention_mask)\n        "
        + SCORES.replace("attention_mask", "kept"),
    ),
    "assigned_weights_are_used": Edit(
        "gpt2.backends.numpy_backend.NumPyModel.assign",
        f"{REFUSAL}self._place(parameters)",
        f"{REFUSAL}self.params = nest(dict(parameters))",
    ),
    "assigned_weights_reach_the_classifier": Edit(
        "gpt2.backends.numpy_backend.NumPyModel.assign", f"{REFUSAL}self._place(parameters)", REFUSAL.rstrip()
    ),
    "results_do_not_change_afterwards": Edit(
        "gpt2.backends.numpy_backend.NumPyModel.logits",
        SCORES,
        SCORES.replace("return", "found =")
        + '\n        kept = self.__dict__.setdefault("kept", found)\n        kept[...] = found\n        return kept',
    ),
    "decoders_do_not_meet": Edit(
        "gpt2.backends.numpy_backend.NumPyDecoder.__init__",
        "fast.make_cache(owner.config, batch_size, length, owner.dtype)",
        'owner.__dict__.setdefault("cache", fast.make_cache(owner.config, batch_size, length, owner.dtype))',
    ),
    "a_decoder_chooses_by_its_scores": Edit(
        "gpt2.backends.numpy_backend.NumPyDecoder.greedy",
        "generate.greedy(self._logits)",
        "generate.greedy(self._logits[::-1])",
    ),
    "results_have_the_promised_shape_and_dtype": Edit(
        "reference.ops.layer_norm", "return centred /", "return centred.astype(np.float64) /"
    ),
    "greedy_is_the_first_of_the_highest": Edit(
        "reference.generate.greedy",
        "np.argmax(logits, axis=-1)",
        "logits.shape[-1] - 1 - np.argmax(logits[..., ::-1], axis=-1)",
    ),
    "a_word_longer_than_the_text_bans_nothing": Edit(
        "reference.generate.ban_word", "        return logits\n", "        return logits + 1\n"
    ),
    "sampling_from_one_id_is_greedy": Edit(
        "reference.generate._likeliest_first", "< top_k, scores", "<= top_k, scores"
    ),
    "temperature_divides_the_scores": Edit(
        "reference.generate._likeliest_first",
        "/ np.array(temperature, logits.dtype)",
        "/ np.array(temperature**2, logits.dtype)",
    ),
    "typical_ids_are_near_the_mean_surprise": Edit(
        "reference.generate._typical", "distance = np.abs(below -", "distance = -(below -"
    ),
    "sampling_walks_from_the_likeliest": Edit(
        "reference.generate._likeliest_first", "np.argsort(-logits", "np.argsort(logits"
    ),
    "shares_of_numbers_are_probabilities": Edit(
        "reference.generate.sample", "uniform[:, None].astype", "uniform[:, None].__pow__(2).astype"
    ),
    "a_decoder_is_the_plain_model_after_any_calls": Edit(
        "gpt2.backends.numpy_backend.NumPyDecoder.reorder",
        "(self._attention_mask, *(each for pair in self._cache for each in pair))",
        "(each for pair in self._cache for each in pair)",
    ),
    "a_decoder_has_room_for_every_piece": Edit(
        "gpt2.backends.numpy_backend.NumPyDecoder.read", "        self._slot = end\n", "        self._slot = end - 1\n"
    ),
    "an_engine_rounds_its_weights": Edit(
        "gpt2.backends.numpy_backend.NumPyModel._place", "x.astype(self.dtype, copy=False) for", "x for"
    ),
    "the_last_scores_can_be_had_alone": Edit("reference.fast.gpt2_fast", "x = x[:, -1:]", "x = x[:, :1]"),
    "rows_need_no_batch": Edit(
        "reference.fast.linear",
        "_product(as_low_as(x, weight)",
        "_product((as_low_as(x, weight) if x.ndim > 2 else -x)",
    ),
    "equal_scores_share_equally": Edit("reference.generate._likeliest_first", "likelier < top_p", "likelier <= top_p"),
    "never_waits_for_the_longest_text": Edit(
        "reference.generate.beams_may_improve", 'early_stopping == "never"', "early_stopping is None"
    ),
}

# Laws that train, generate or make their own texts have tests of their own.
OWN = [law for law in LAWS if not law.trains and not law.generates and law.draws not in SEEDED]
# In float16 no remainder is far above its noise.
ROUNDED_AWAY = {law.name for law in OWN if law.name.endswith("are_tangents")}
# These are about weights as they are trained.
IN_FLOAT32 = {"the_fast_update_is_the_plain_one", "a_classifiers_gradients_are_those_of_its_loss"}

by_law = pytest.mark.parametrize("law", OWN, ids=lambda law: law.name)


def verdicts(law: Law, backend: Backend, examples: int) -> Iterator[tuple[str, Verdict]]:
    """Each verdict of a law on that many cases, with the case in words."""
    rule = rules()[f"laws.{law.name}"]
    for case in draw(rule, numpy_dtype(backend.dtype), examples):
        for verdict in decide(law.holds, Trial(case, backend)):
            yield case.describe(), verdict


@by_law
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_law_holds_of_the_reference(law: Law, dtype: str) -> None:
    found = list(verdicts(law, NumPyBackend(dtype=dtype), 10))
    assert bool(found) != (dtype == "float16" and law.name in ROUNDED_AWAY | IN_FLOAT32)
    for case, verdict in found:
        assert verdict.agrees, f"{verdict.explain()} ({case})"


@by_law
def test_a_law_holds_of_mindspore(law: Law) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    for case, verdict in verdicts(law, get_backend("mindspore", mode="pynative"), 3):
        assert verdict.agrees, f"{verdict.explain()} ({case})"


def test_there_is_a_fault_for_each_law_and_no_other() -> None:
    assert set(FAULTS) == {law.name for law in OWN}


@by_law
def test_a_planted_fault_breaks_the_law(law: Law) -> None:
    backend = Twin(law.name, (FAULTS[law.name],)).backend()
    with np.errstate(all="ignore"):
        assert any(not each.agrees for examples in (10, 100) for _, each in verdicts(law, backend, examples))


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
