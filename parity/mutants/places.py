"""The stages and the laws that may be blamed for a family of planted bugs."""

NORMS = ("ln_1", "ln_2", "ln_f")
AFFINE = ("attn.qkv", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
PRODUCTS = (*AFFINE, "attn.scores", "attn.attn_output", "logits", "score")

CACHED = "laws.a_cache_changes_no_choice"
CHOICES = "laws.choices_are_those_of_the_whole_text"
ALONE = "laws.a_prompt_goes_on_in_a_batch_as_alone"
ENDS = "laws.a_text_ends_where_it_should"
FORBIDDEN = "laws.what_is_forbidden_is_not_written"
LOGS = "laws.log_probabilities_are_those_of_the_whole_text"
TWO = "laws.a_search_for_two_tokens_finds_the_best"
LONGER = "laws.a_longer_search_is_no_worse"
TOLD = "laws.what_is_told_is_what_is_returned"
INTERRUPTED = "laws.a_run_that_is_interrupted_returns_the_text_so_far"
SIMPLEST = "laws.the_simplest_loop_takes_the_likeliest"
WINDOW = "laws.beyond_the_context_the_last_tokens_count"
