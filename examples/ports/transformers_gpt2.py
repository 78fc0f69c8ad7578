"""GPT-2 of Hugging Face transformers as a port: gpt2 check --with transformers_gpt2.py:build"""

import transformers


def build(config, parameters):
    classifies = "score.weight" in parameters
    kind = transformers.GPT2ForSequenceClassification if classifies else transformers.GPT2LMHeadModel
    model, heads = kind(transformers.GPT2Config(**config.to_dict())), ("lm_head.", "score.")
    named = {name if name.startswith(heads) else f"transformer.{name}": x for name, x in parameters.items()}
    model.load_state_dict(named, strict=False)
    return model.eval()
