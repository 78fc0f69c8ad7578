"""An explanation in words, in both languages; stories of mistakes are in English, as their sources are."""

from parity.mutants.mistake import Explanation, Mistake

# English, 简体中文.
WORDS = {
    "explained": ("explained by a known mistake: {name}", "可由一个已知的错误解释：{name}"),
    "arithmetic": (
        "not a mistake, but how float32 is computed: {name}",
        "不是错误，而是 float32 的计算方式：{name}",
    ),
    "switch": ("for exact float32: {switch}", "要得到准确的 float32：{switch}"),
    "stage": ("{stage} alone is explained by a known mistake: {name}", "单看 {stage}，可由一个已知的错误解释：{name}"),
    "number": ("estimated from the results: {number}", "由结果估计：{number}"),
    "cases": (
        "the results are its results in {cases} of {cases} cases, within each input's rounding noise (it is not the "
        "reference in {differs} of them)",
        "在 {cases} 个情形中的 {cases} 个里，结果就是它的结果，相差不超过各输入的舍入噪声"
        "（其中 {differs} 个与参考实现不同）",
    ),
    "equally": ("just as well: {names}", "同样能解释的还有：{names}"),
    "change": (
        "the reference would do the same with this change in {function}:",
        "参考实现若在 {function} 中这样改，结果相同：",
    ),
    "nothing": ("no known mistake explains it ({tried} tried)", "没有已知的错误能解释它（试了 {tried} 个）"),
    "not tried": (
        "{count} known mistakes were not tried: there was no time left",
        "还有 {count} 个已知的错误没有试：时间用完了",
    ),
}
MOST_NAMES = 4  # of other mistakes that explain it too
LANGUAGES = ("en", "zh")


def explained(explanation: Explanation | None, language: str = "en") -> list[str]:
    """The lines that say what explains a failure; [] if nobody looked for it."""
    if explanation is None:
        return []

    def say(key: str, **facts: object) -> str:
        return WORDS[key][LANGUAGES.index(language)].format(**facts)

    def about(found: Mistake) -> list[str]:
        key = "arithmetic" if found.switch else "stage" if found.stage else "explained"
        title = say(key, stage=found.stage, name=found.name)
        lines = [title, f"  {found.story}"]
        lines += ["  " + say("number", number=found.number)] * bool(found.number)
        lines.append("  " + say("cases", cases=found.cases, differs=found.differs))
        if found.equally:
            more = len(found.equally) - MOST_NAMES
            names = [*found.equally[:MOST_NAMES], *([f"+ {more}"] if more > 0 else [])]
            lines.append("  " + say("equally", names="; ".join(names)))
        lines += ["  " + say("switch", switch=found.switch)] * bool(found.switch)
        for change in found.changes:
            lines.append("  " + say("change", function=change.function))
            lines += [f"    - {line}" for line in change.old.splitlines()]
            lines += [f"    + {line}" for line in change.new.splitlines()]
        return lines

    lines = [line for found in explanation.mistakes for line in about(found)]
    if not explanation.mistakes:
        lines.append(say("nothing", tried=explanation.tried))
    return lines + [say("not tried", count=explanation.not_tried)] * bool(explanation.not_tried)
