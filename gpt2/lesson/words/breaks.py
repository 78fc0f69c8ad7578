"""The planted bugs of the lesson in words. The judge knows them by the same names (parity/mutants.py)."""

BREAK_WORDS: dict[str, dict[str, dict[str, str]]] = {
    "positions one too far": {
        "name": {"en": "Positions one too far", "zh": "位置编号多了 1"},
        "law": {"en": "positions count from the end of the past", "zh": "位置从历史末尾接着数"},
        "story": {
            "en": "Positions begin at 1 instead of 0: in fairseq they begin behind the padding index, in OPT at 2. "
            "Nothing crashes; every token merely believes it stands one place further on.",
            "zh": "位置从 1 而不是从 0 开始：fairseq 的位置排在填充编号之后，OPT 从 2 开始。程序不会报错，"
            "只是每个词元都以为自己站在后一个位置上。",
        },
    },
    "epsilon outside the root": {
        "name": {"en": "Epsilon outside the root", "zh": "ε 放到了根号外面"},
        "law": {"en": "layer norm normalises", "zh": "层归一化确实归一化"},
        "story": {
            "en": "The Annotated Transformer divides by <code>std + eps</code>, and many projects copied it from "
            "there. "
            "GPT-2 divides by the root of <code>variance + eps</code>. The two differ little, and never not at all.",
            "zh": "The Annotated Transformer 除以 <code>std + eps</code>，许多项目照抄了这一行。GPT-2 除以的是 "
            "<code>variance + eps</code> 的平方根。两者相差很小，但从来不是零。",
        },
    },
    "queries and keys swapped": {
        "name": {"en": "Queries and keys swapped", "zh": "查询和键对调"},
        "law": {"en": "the bias of the keys is forgotten", "zh": "键的偏置不起作用"},
        "story": {
            "en": "The output of <code>c_attn</code> is read as k, q, v. All shapes fit, every row of weights "
            "still sums "
            "to 1, and yet each token now asks with what it should be found by.",
            "zh": "把 <code>c_attn</code> 的输出按 k、q、v 的顺序读取。形状全都对，每行权重之和也仍然是 1，"
            "可是每个词元却拿“被找到的依据”去提问了。",
        },
    },
    "heads cut but not moved": {
        "name": {"en": "Heads cut but not moved", "zh": "切了头，却没有换轴"},
        "law": {"en": "heads are neighbouring channels", "zh": "一个头就是一段相邻的通道"},
        "story": {
            "en": "<code>view(B, H, T, D)</code> instead of <code>view(B, T, H, D).transpose(1, 2)</code>: the "
            "shape is "
            "right, but a head gets pieces of several tokens. FuxiCTR had it.",
            "zh": "写成 <code>view(B, H, T, D)</code>，而不是 <code>view(B, T, H, D).transpose(1, 2)</code>："
            "形状是对的，但一个头里混进了好几个词元的碎片。FuxiCTR 就犯过这个错。",
        },
    },
    "scores not scaled": {
        "name": {"en": "Scores not scaled", "zh": "分数没有缩放"},
        "law": {"en": "scores are divided by the root of the head size", "zh": "分数要除以头维度的平方根"},
        "story": {
            "en": "The division by √D is missing. T5 does without it, because it folds the scale into its "
            "initialisation; GPT-2’s weights expect it, and without it softmax becomes far too sure of itself.",
            "zh": "漏掉了除以 √D。T5 不需要它，因为缩放已经并入初始化；GPT-2 的权重却是按有缩放训练的，"
            "少了它，softmax 就会过分自信。",
        },
    },
    "the mask shows the next token": {
        "name": {"en": "The mask shows the next token", "zh": "掩码露出了下一个词元"},
        "law": {"en": "causality", "zh": "因果性"},
        "story": {
            "en": "A diagonal too many: each token sees the one after it. In training the loss drops "
            "wonderfully, since "
            "the answer may be copied; in use the model has learnt nothing.",
            "zh": "多露了一条对角线：每个词元都能看到后面那一个。训练时损失降得漂亮极了，因为答案可以照抄；"
            "真正使用时才发现模型什么也没学会。",
        },
    },
    "softmax over the queries": {
        "name": {"en": "Softmax over the queries", "zh": "softmax 作用在查询轴上"},
        "law": {"en": "the first token sees itself alone", "zh": "第一个词元只看得到自己"},
        "story": {
            "en": "The wrong axis: now the columns sum to 1, not the rows. How much a token takes of the first one "
            "depends on what later tokens ask, so the future leaks in through the denominator.",
            "zh": "轴选错了：列之和等于 1，而不是行之和等于 1。一个词元能取多少，取决于后面的词元问了什么，"
            "于是未来的信息从分母里漏了进来。",
        },
    },
    "c_proj transposed": {
        "name": {"en": "c_proj transposed", "zh": "c_proj 被转置"},
        "law": {"en": "a head minds its own channels", "zh": "每个头只管自己的通道"},
        "story": {
            "en": "GPT-2 stores weights as (in, out), <code>nn.Linear</code> as (out, in). Whoever converts must turn "
            "four matrices over; the square one fits either way and fails in silence.",
            "zh": "GPT-2 的权重按 (输入, 输出) 存放，<code>nn.Linear</code> 按 (输出, 输入)。转换时有四个矩阵要转置；"
            "其中的方阵怎么放形状都对，错了也悄无声息。",
        },
    },
    "residual of the normed input": {
        "name": {"en": "Residual of the normed input", "zh": "残差加在了归一化之后的输入上"},
        "law": {"en": "a block forgets a shift of all channels", "zh": "所有通道一起平移，一层所加的量不变"},
        "story": {
            "en": "Attention is added to what it has read, the normed stream, instead of to the stream itself: an "
            "option of Megatron and BLOOM, but not GPT-2.",
            "zh": "注意力的结果加到了它读到的（归一化之后的）输入上，而不是加回残差流本身：这是 Megatron 和 BLOOM "
            "的一个选项，却不是 GPT-2 的做法。",
        },
    },
    "erf for tanh": {
        "name": {"en": "GELU by erf instead of tanh", "zh": "GELU 用了 erf 而不是 tanh"},
        "law": {"en": "activations have known values", "zh": "激活函数在已知点上取已知值"},
        "story": {
            "en": "<code>nn.GELU()</code> in PyTorch and <code>ops.gelu</code> in MindSpore compute erf unless told "
            "otherwise; GPT-2 was trained with the tanh form. nanoGPT once took the wrong one. They differ by at most "
            "5·10<sup>-4</sup>: no plot shows it.",
            "zh": "PyTorch 的 <code>nn.GELU()</code> 和 MindSpore 的 <code>ops.gelu</code> 默认用 erf 计算，"
            "而 GPT-2 训练时用的是 tanh 形式。nanoGPT 也用错过。两者最多相差 5·10<sup>-4</sup>，画成曲线根本看不出来。",
        },
    },
    "ln_f dropped": {
        "name": {"en": "The final norm dropped", "zh": "漏掉最后的归一化"},
        "law": {"en": "final states have mean 0", "zh": "最终状态的均值为 0"},
        "story": {
            "en": "GPT-1 norms behind each sub-block and needs none at the end. GPT-2 norms before each, so what "
            "leaves the last block has not been normed: <code>ln_f</code> must do it.",
            "zh": "GPT-1 在每个子层之后归一化，末尾不再需要。GPT-2 在每个子层之前归一化，"
            "所以最后一层的输出还没有归一化过，必须由 <code>ln_f</code> 来做。",
        },
    },
}
