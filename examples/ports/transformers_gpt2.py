"""GPT-2 of Hugging Face transformers as a port: gpt2 check --with transformers_gpt2.py:build"""

import transformers


def build(config, parameters):
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config.to_dict()))
    model.load_state_dict(
        {name if name.startswith("lm_head") else f"transformer.{name}": x for name, x in parameters.items()},
        strict=False,
    )
    return model.eval()
