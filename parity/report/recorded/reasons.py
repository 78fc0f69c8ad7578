"""Reasons and notes of a judgement in Chinese: they are made in English, by what judges, and translated for a report.

A {} stands for what differs: a name, a number, a shape. What is not here is shown in English.
"""

import functools
import re

CHINESE = {
    # Calls.
    "its forward call is not recorded": "没有记录它的前向调用",
    "the dump kept its tensors alone: an axis or another option may be missing": "只记录了张量：可能缺少轴或别的选项",
    "no gradient is recorded that is its alone": "没有记录只属于它的梯度",
    "the numbers of its results were not recorded": "没有记录结果的数值",
    "the numbers of its argument {} were not recorded": "没有记录输入 {} 的数值",
    "the numbers of the gradient of its result were not recorded": "没有记录结果的梯度的数值",
    "the recorded arguments do not fit together: {}": "记录的输入彼此不相符：{}",
    "with GPT-2's epsilon, {}, it differs, with {} it agrees: is it so in config.json?": (
        "用 GPT-2 的 epsilon {} 不一致，用 {} 则一致：config.json 里是这样吗？"
    ),
    "a whole model is judged from its ids, with --model": "整个模型要用 --model 从 id 评判",
    "it returned no tensor": "它没有返回张量",
    "the gradient of its result is not recorded": "没有记录结果的梯度",
    "no gradient of its arguments is recorded": "没有记录输入的梯度",
    "a gradient of shape {} is that of no argument": "形状为 {} 的梯度不属于任何输入",
    "a gradient of shape {} may be that of {}": "形状为 {} 的梯度可能属于 {}",
    "the dump holds statistics alone, from which nothing follows for its result": "只有统计量，由它们推不出结果",
    "no operator of the table is named {}": "算子表里没有 {}",
    "the table does not know argument {} of {}": "算子表不知道 {1} 的第 {0} 个输入",
    "the table does not know the argument {} of {}": "算子表不知道 {1} 的参数 {0}",
    "{} is in the table with {} = {} alone": "算子表里的 {} 只有 {} = {} 的形式",
    # Modules.
    "the gradient of its first result is not recorded": "没有记录第一个结果的梯度",
    "the gradient is not 0 at pads, whose results mean nothing": "填充处的梯度不为 0，而那里的结果没有意义",
    "its input (B, T, C) is not recorded": "没有记录它的输入 (B, T, C)",
    "{} channels are not {} heads": "{} 个通道分不成 {} 个头",
    "its submodule {} is not recorded": "没有记录子模块 {}",
    "it has a past, whose keys and values are not recorded": "它接着已有上下文，其键和值没有记录",
    "how many heads it has is not recorded: no softmax (B, H, T, S) within it, no config.json": (
        "没有记录头数：里面没有 softmax (B, H, T, S)，也没有 config.json"
    ),
    "its scores are divided by {} in all, not by the root of {}: is it so in config.json?": (
        "分数一共除以 {}，而不是 {} 的平方根：config.json 里是这样吗？"
    ),
    "its activation is not recorded: none that the table knows, or several, within it": (
        "没有记录激活函数：里面没有算子表认得的，或者有好几个"
    ),
    "its submodule {}, {}, is no affine map of the table": "子模块 {}（{}）不是算子表里的仿射映射",
    "its submodule {}, {}, is no norm of the table": "子模块 {}（{}）不是算子表里的归一化",
    "the parameters of its submodule {} are not recorded": "没有记录子模块 {} 的参数",
    "it computes in several dtypes; its parts are judged alone": "它用多种 dtype 计算；各部分单独评判",
    "dropout is on, and what it dropped is not recorded": "dropout 开着，而丢弃了什么没有记录",
    "its mask {} may be one of tokens (B, T), or one of keys (T, T)": "掩码 {} 可能是词的 (B, T)，也可能是键的 (T, T)",
    "its mask has shape {}": "掩码的形状是 {}",
    "its mask hides other keys than later tokens and pads": "掩码遮住的不只是后面的词和填充",
    # The run as a whole.
    "no ids: the folder has no file of that name (ids.npy)": "没有 id：文件夹里没有这个文件（ids.npy）",
    "the mask that a layer was given may be one of tokens (B, T), or one of keys (T, T)": (
        "某一层得到的掩码可能是词的 (B, T)，也可能是键的 (T, T)"
    ),
    "no call in it is a stage of a GPT-2": "里面没有一次调用是 GPT-2 的阶段",
    "no ids: no call of the model or of its table of tokens was recorded": "没有 id：没有记录模型或词表的调用",
    "the ids are there by their statistics alone: dump them with task tensor": "id 只有统计量：请用 task tensor 采集",
    "{} tokens, but the model has {} positions: is it another model?": (
        "有 {} 个词，而模型只有 {} 个位置：是别的模型吗？"
    ),
    "it continues a past of {} tokens, which was read before it": "它接着之前读过的 {} 个词",
    "dropout is on ({}): call model.eval() or set it to 0; each call is judged all the same": (
        "dropout 开着（{}）：请调用 model.eval() 或把它设为 0；各次调用照样评判"
    ),
    "ids beyond the model's vocabulary of {}: is it another model?": "id 超出模型的词表（{}）：是别的模型吗？",
    "positions beyond the model's {}: is it another model?": "位置超出模型的 {} 个：是别的模型吗？",
    "no stage has its numbers: dump them with task tensor": "没有一个阶段有数值：请用 task tensor 采集",
    "no recorded stage has the shape of this model's": "记录的阶段没有一个与这个模型的形状相符",
    "the model's parameters are those of an earlier step, and this step recorded not all of its own": (
        "模型的参数属于更早的一步，而这一步没有录全自己的参数"
    ),
    "the model's parameters are those of an earlier step: this one is judged by those that it recorded": (
        "模型的参数属于更早的一步：这一步按它自己记录的参数评判"
    ),
    "attention_mask as the model was given it": "attention_mask 取自模型的输入",
    "attention_mask as a layer was given it": "attention_mask 取自某一层的输入",
    "position_ids as the {} was given them": "position_ids 取自 {} 的输入",
    "positions from 0: the table of positions was given them from 1, without a past": (
        "位置应从 0 起：位置表得到的是从 1 起的，而前面没有上下文"
    ),
    "not stages of this model: {}": "不是这个模型的阶段：{}",
    # The loss.
    "the loss: there are several": "损失：有好几个",
    "the loss: {} is not given scores and the ids of its targets": "损失：{} 得到的不是分数和目标的 id",
    "the loss: the numbers of its arguments were not recorded": "损失：没有记录输入的数值",
    "the loss: the logits were not recorded": "损失：没有记录 logits",
    "the loss: scores {} and targets {} are no rows of {} scores": "损失：分数 {} 和目标 {} 不是每行 {} 个分数的行",
    "the loss: its rows of scores are no rows of the logits": "损失：它的分数不是 logits 的行",
    "the loss: which rows of the logits its scores are, cannot be told: some are alike": (
        "损失：无法判断它的分数是 logits 的哪些行，因为有几行相同"
    ),
    "the loss: nothing is scored": "损失：没有一个词计入",
    "the loss: its targets are not the ids, so that nobody can tell where they belong": (
        "损失：目标不是 id，无法判断它们属于哪个位置"
    ),
    "each target is the token itself, not the next: at {} it is {}, expected {}": (
        "每个目标是这个词本身，而不是下一个：在 {} 处为 {}，应为 {}"
    ),
    "each target is the token after the next, not the next: at {} it is {}, expected {}": (
        "每个目标是下下个词，而不是下一个：在 {} 处为 {}，应为 {}"
    ),
    "each target is the token before, not the next: at {} it is {}, expected {}": (
        "每个目标是前一个词，而不是下一个：在 {} 处为 {}，应为 {}"
    ),
    "scores that are not the logits: {} at {}, expected the same bits as {}": (
        "分数不是 logits：在 {1} 处为 {0}，应与 {2} 逐位相同"
    ),
}


def in_language(text: str, language: str) -> str:
    """A reason or note in that language; in English if it is not known."""
    if language != "zh":
        return text
    for form, chinese in _forms():
        found = form.fullmatch(text)
        if found is not None:
            return chinese.format(*found.groups())
    return text


@functools.cache
def _forms() -> list[tuple[re.Pattern[str], str]]:
    return [
        (re.compile(re.escape(english).replace(r"\{\}", "(.+?)"), re.DOTALL), chinese)
        for english, chinese in CHINESE.items()
    ]
