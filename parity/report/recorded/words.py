"""The words of the table and the page, in both languages; and text from a recording, made fit to be shown."""

import re
from collections.abc import Mapping

from gpt2.arguments import LANGUAGES
from parity.recorded.runs.missing_gradients import MissingGradient
from parity.recorded.runs.parameters import DIFFERS, ParameterFinding
from parity.recorded.runs.precision import LowerPrecision
from parity.report.recorded.facts import Wrong
from parity.report.recorded.reasons import in_language
from parity.verdict.verdict import Verdict

# Control characters, and those that turn the direction of writing: a name in a dump may hold any.
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

MOST_CALLS = 4  # that are named of those which compute in a narrower dtype

WORDS: Mapping[str, tuple[str, str]] = {
    "title": ("Recorded run", "运行记录"),
    "kicker": ("every call judged on its own recorded inputs", "每次调用都用它自己被记录的输入来评判"),
    "all agree": ("All {count} judged calls and stages agree", "评判的 {count} 个调用和阶段全部一致"),
    "something differs": (
        "{wrong} of {count} judged calls and stages differ",
        "评判的 {count} 个调用和阶段中有 {wrong} 个不一致",
    ),
    "differs otherwise": ("Something differs", "有不一致之处"),
    "nothing": ("Nothing was judged", "没有可以评判的内容"),
    "damaged": ("Cannot be read", "无法读取"),
    "damaged agree": (
        "All {count} judged calls and stages agree, but files of the recording cannot be read",
        "评判的 {count} 个调用和阶段全部一致，但记录中有文件无法读取",
    ),
    "interrupted": ("Interrupted: this is what was judged so far.", "已中断：以下是到此为止的结果。"),
    "rule": (
        "A result agrees when its error is at most 3 × this input's rounding noise + 4 ulp.",
        "误差不超过 3 × 该输入自身的舍入噪声 + 4 ulp，即为一致。",
    ),
    "first wrong": ("What is wrong first", "最先出错之处"),
    "parameter first": (
        "A parameter is not the model's: what follows may come from it alone.",
        "有参数与模型不同：后面的差别可能全由它引起。",
    ),
    "called at": ("called at", "调用处"),
    "reference": ("the reference's source", "参考实现的源码"),
    "layer": ("layer", "层"),
    "call": ("call", "调用"),
    "forward": ("forward", "前向"),
    "backward": ("backward", "反向"),
    "inherited": ("from ids", "从 id 算起"),
    "times noise": ("errors as multiples of the noise", "误差为噪声的倍数"),
    "operators": ("operators", "算子"),
    "before the layers": ("before the layers", "各层之前"),
    "after the layers": ("after the layers", "各层之后"),
    "ulp": ("ulp", "ulp"),
    "bits": ("bits left", "余量（位）"),
    "verdict": ("verdict", "结论"),
    "agrees": ("agrees", "一致"),
    "identical": ("identical", "逐位相同"),
    "differs": ("differs", "不一致"),
    "inherits": ("inherits", "上游带来"),
    "not judged": ("not judged", "未评判"),
    "not judged title": ("Not judged, and why", "未评判的调用及原因"),
    "calls": ("calls", "次调用"),
    "such as": ("such as", "例如"),
    "statistics": (
        "{count} calls were judged by statistics alone (maximum, minimum, mean, norm): a permutation of the numbers, "
        "such as heads that were cut and not moved, is not seen there. Dump with task tensor for a verdict on every "
        "number.",
        "{count} 次调用只能按统计量（最大、最小、均值、范数）评判：数的排列错误（例如切了头却没有换轴）"
        "在那里看不出来。要对每个数下结论，请用 task tensor 采集。",
    ),
    "differences": ("What differs", "不一致之处"),
    "stages": ("Stages by the model", "按模型逐阶段"),
    "stage": ("stage", "阶段"),
    "own": ("own work × noise", "自身 × 噪声"),
    "whole reason": ("The run as a whole was not judged", "未能整体评判这次运行"),
    "parameters": ("Parameters", "参数"),
    "parameters right": ("{count} recorded parameters are the model's", "记录的 {count} 个参数都与模型相同"),
    "parameters alike": (
        "{count} recorded parameters have the maximum and minimum of the model's; their numbers were not recorded",
        "记录的 {count} 个参数的最大值和最小值与模型相同；没有记录它们的数值",
    ),
    "headroom": ("Room in float16", "float16 余量"),
    "headroom least": (
        "least: {bits:.1f} bits below overflow, in {name} (largest {largest:.4g})",
        "最小：距上溢 {bits:.1f} 位，在 {name}（最大值 {largest:.4g}）",
    ),
    "headroom lost": (
        "{share:.0%} of {name} become 0 in float16, {below:.0%} lose digits",
        "{name} 中有 {share:.0%} 在 float16 里变成 0，{below:.0%} 损失精度",
    ),
    "made here": ("{what} first made of finite numbers by {name}", "{name} 最先由有限数产生 {what}"),
    "came in": ("{what} first in {name}, which was given it", "{what} 最先见于 {name}，它的输入里已经有了"),
    "gradients": ("Gradients by layer (2-norm)", "各层梯度（2-范数）"),
    "ranks": ("Steps and ranks", "步与卡"),
    "ranks alike": (
        "{count} steps and ranks: parameters are the same on all ranks of each step",
        "共 {count} 个步与卡：每一步里各卡的参数都相同",
    ),
    "against": ("Against {source}", "与 {source} 对比"),
    "lined up": (
        "{count} calls lined up, {stages} of them stages of GPT-2; alone in the first: {alone}, in the second: {other}",
        "对上 {count} 次调用，其中 {stages} 个是 GPT-2 的阶段；只在第一个里：{alone}，只在第二个里：{other}",
    ),
    "pair": ("{one} and {other}", "{one} 与 {other}"),
    "pairs differ": ("pairs that differ", "不一致的配对"),
    "difference": ("difference", "差"),
    "second": ("second run", "第二次运行"),
    "notes": ("Not read", "未读取"),
    "histogram": (
        "The bar shows how many results of a layer err by 0, up to ½, 1, 2, 4, 8 ulp, and more.",
        "小柱图：一层里误差为 0、不超过 ½、1、2、4、8 ulp 以及更大的结果各有多少。",
    ),
    "legend": (
        "× noise: the error as a multiple of this input's own rounding noise. Up to 3 × noise + 4 ulp, two correct "
        "programs may differ. Forward and backward: each call on the inputs that were recorded for it, so nothing is "
        "inherited. From ids: against what the model makes of the recorded ids.",
        "× 噪声：误差是该输入自身舍入噪声的多少倍；3 倍噪声加 4 ulp 以内，两个都正确的程序也可能有这样的差别。"
        "前向、反向：每次调用只用为它记录的输入，不继承上游误差。从 id 算起：与模型由记录的 id 算出的结果相比。",
    ),
    "more": ("{count} more reasons, which the JSON has", "另有 {count} 种原因，见 JSON"),
    "source": ("recording", "记录"),
    "kind": ("format", "格式"),
    "framework": ("framework", "框架"),
    "level": ("level", "级别"),
    "task": ("task", "任务"),
    "model": ("model", "模型"),
    "project": ("gpt2-parity", "gpt2-parity"),
    "python": ("Python", "Python"),
    "numpy": ("NumPy", "NumPy"),
    "machine": ("machine", "机器"),
    "platform": ("platform", "平台"),
    "time": ("time (UTC)", "时间（UTC）"),
    "every call": ("Every call", "每一次调用"),
    "function": ("judged by", "评判依据"),
    "result": ("result", "结果"),
    "light": (
        "Green: within the noise. Yellow: above it, as correct programs may be. Red: it differs, the darker the "
        "further.",
        "绿：在噪声以内。黄：超过噪声，但正确的程序也会如此。红：不一致，颜色越深差得越远。",
    ),
    "grid": ("Layer by layer", "逐层"),
    "none": ("not given", "未给出"),
    # A verdict in words.
    "error": ("{ulps} ulp; {ratio} x this input's rounding noise", "{ulps} ulp；是该输入舍入噪声的 {ratio} 倍"),
    "error at": (
        ": differs at {index}: {value!r}, expected {expected!r}",
        "：在 {index} 处为 {value!r}，应为 {expected!r}",
    ),
    "is right": (
        "; the call computes what it was given: its input, or a parameter, is not the model's",
        "；这次调用对它得到的输入计算无误：是输入或参数与模型不同",
    ),
    "held as result": (" (the result of {call})", "（{call} 的结果）"),
    "held as argument": (" (an argument of {call})", "（{call} 的输入）"),
    "after": ("; it went wrong between {after} and here", "；错误出在 {after} 与此处之间"),
    "gradient": ("gradient", "梯度"),
    "left out": (
        "{name} requires a gradient and has none, though one reached {call}",
        "{name} 需要梯度却没有得到，而梯度已传到 {call}",
    ),
    "cut off": (
        "{name} requires a gradient and has none: {around} cuts the result of {call} off from the backward pass",
        "{name} 需要梯度却没有得到：{around} 把 {call} 的结果与反向传播断开了",
    ),
    "the model": ("the model", "模型"),
    "lower precision": ("Lower precision", "较低精度"),
    "computes in": (
        "{count} calls compute in {dtype} within a float32 model ({names})",
        "float32 模型里有 {count} 次调用用 {dtype} 计算（{names}）",
    ),
    # What a parameter is.
    "same": ("{name} is the model's", "{name} 与模型相同"),
    "stored (out, in)": ("{name} is stored (out, in), and used so", "{name} 按 (out, in) 存放，用法也如此"),
    "of the same maximum and minimum": (
        "{name} has the maximum and minimum of the model's",
        "{name} 的最大值和最小值与模型相同",
    ),
    "transposed": ("{name} is transposed", "{name} 被转置了"),
    "zero": ("{name} is zero", "{name} 全为零"),
    "of another": ("{name} holds {other}", "{name} 里存的是 {other}"),
    "queries, keys and values in another order": (
        "{name} has queries, keys and values in another order: {other}",
        "{name} 的查询、键、值顺序不同：{other}",
    ),
    "rounded": ("{name} is rounded to {other}", "{name} 被舍入到 {other}"),
    "differs from": ("{name} differs from the model's by up to {most:.3g}", "{name} 与模型不同，最多相差 {most:.3g}"),
    "of another shape": ("{name} is of another shape: {other}", "{name} 形状不同：{other}"),
    "of other statistics": ("{name} is of other statistics", "{name} 的统计量不同"),
}


class Words:
    """The words of one language: words("call")."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._index = LANGUAGES.index(language)

    def __call__(self, word: str, /, **values: object) -> str:
        said = WORDS[word][self._index]
        return said.format(**values) if values else said


def fit(text: object) -> str:
    """A text from a recording with its control characters escaped, so that it cannot break a terminal or a page."""
    return UNFIT.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), str(text))


def reason_in(text: str, words: Words) -> str:
    """A reason or note, which what judges says in English, in the language of the words, fit to be shown."""
    return fit(in_language(text, words.language))


def explained(verdict: Verdict, words: Words) -> str:
    """A verdict in words."""
    if verdict.reason:
        return reason_in(verdict.explain(), words)
    if verdict.error == 0:
        return words("identical")
    said = words("error", ulps=f"{verdict.ulps:.3g}", ratio=f"{verdict.noise_ratio:.2g}")
    if verdict.agrees:
        return said
    at = f"{fit(verdict.name)}{verdict.index}"
    return said + words("error at", index=at, value=verdict.value, expected=verdict.expected)


def of_parameter(parameter: ParameterFinding, words: Words) -> str:
    """What a parameter is, in words."""
    known = {"name": fit(parameter.name), "other": fit(parameter.other), "most": parameter.most or 0.0}
    return words("differs from" if parameter.what == DIFFERS else parameter.what, **known)


def of_gradient(missing: MissingGradient, words: Words) -> str:
    """What is said of a gradient that is missing, in words."""
    around = words("the model") if missing.around is None else fit(missing.around.name)
    known = {"name": fit(missing.name), "call": fit(missing.call.name)}
    return words("left out", **known) if missing.is_reached else words("cut off", **known, around=around)


def of_precision(lower: LowerPrecision, words: Words) -> str:
    """Which calls compute in a narrower dtype than the model's, in words."""
    names = [fit(call.name) for call in lower.calls[:MOST_CALLS]]
    shown = ", ".join([*names, *(["..."] if len(lower.calls) > MOST_CALLS else [])])
    return words("computes in", count=len(lower.calls), dtype=lower.dtype, names=shown)


def of_wrong(wrong: Wrong, words: Words) -> str:
    """What is wrong first, in words."""
    if wrong.parameter is not None:
        return of_parameter(wrong.parameter, words)
    if wrong.gradient is not None:
        return of_gradient(wrong.gradient, words)
    said = "" if wrong.verdict is None else explained(wrong.verdict, words)
    if wrong.is_right:
        said += words("is right")
    if wrong.call:
        said += words("held as result" if wrong.is_result else "held as argument", call=fit(wrong.call))
    return said + (words("after", after=fit(wrong.after)) if wrong.after else "")
