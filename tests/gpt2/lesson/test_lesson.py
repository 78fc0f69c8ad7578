"""The lesson as data: texts in two languages, sources, numbers of the reference, verdicts, planted bugs."""

import base64
import html.parser
import importlib.metadata
import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gpt2
from gpt2.backends import get_backend
from gpt2.errors import GPT2Error
from gpt2.lesson import build, of_prompt, payload, sources
from gpt2.lesson.document import PAGE, joined_scripts, render
from gpt2.lesson.outline import BREAKS, STEPS, VIEWS
from gpt2.lesson.tensors import packed
from gpt2.lesson.words import STEP_WORDS
from gpt2.lesson.words.breaks import BREAK_WORDS
from gpt2.model.model import Model
from parity.cases.contracts import contracts, public_functions
from parity.mutants.all import mutant
from reference import find_function
from reference import model as plain
from reference.config import nest
from reference.gradients.ops import cross_entropy_vjp
from reference.ops import softmax
from tests.gpt2.conftest import usable
from tests.gpt2.small import SMALL, model, parameters

Lesson = dict[str, Any]
LANGUAGES = ("en", "zh")
TAGS = {"p", "code", "em", "sub", "sup"}
TWIN = "twin:reordered"  # a correct implementation that rounds in other places, and needs no MindSpore

WALKED = ("ops", "attention", "model")  # the files that the lesson walks through


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    """The lesson on the packaged model. Not to be changed."""
    return build(gpt2.load("tiny", TWIN))


def numbers(tensor: Lesson) -> NDArray[Any]:
    """What a packed tensor holds."""
    return np.frombuffer(base64.b64decode(tensor["data"]), "<f4").reshape(tensor["shape"])


def functions(lesson: Lesson) -> list[Lesson]:
    return [shown for step in lesson["steps"] for shown in step["functions"]]


def words() -> list[tuple[str, dict[str, str]]]:
    """Every text of the lesson, with what it is."""
    steps = [(f"{id} {part}", both) for id, said in STEP_WORDS.items() for part, both in said.items()]
    return steps + [(f"{name} {part}", both) for name, said in BREAK_WORDS.items() for part, both in said.items()]


class Tags(html.parser.HTMLParser):
    """Collects the tags of a text, and fails where they do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], text

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        assert tag in TAGS, tag
        assert attributes == []
        self.seen.append(tag)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag


def test_both_languages_have_the_same_steps_and_no_empty_text(lesson: Lesson) -> None:
    assert [step["id"] for step in lesson["steps"]] == [step.id for step in STEPS] == list(STEP_WORDS)
    assert {name for name, *_ in BREAKS} == set(BREAK_WORDS)
    assert {tuple(said) for said in STEP_WORDS.values()} == {("title", "text", "question", "answer")}
    for what, both in words():
        assert tuple(both) == LANGUAGES, what
        assert all(text.strip() for text in both.values()), what
        assert re.search("[\u4e00-\u9fff]", both["zh"]) or what == "c_proj transposed name", what
        assert not re.search("[\u4e00-\u9fff]", both["en"]), what


def test_texts_are_plain_html_with_the_same_paragraphs_in_both_languages() -> None:
    for what, both in words():
        found = {language: Tags(text).seen for language, text in both.items()}
        assert found["en"].count("p") == found["zh"].count("p"), what
        if what.endswith((" title", " name", " law")):
            assert found == {"en": [], "zh": []}, what


def test_a_step_is_short() -> None:
    for id, said in STEP_WORDS.items():
        count = len(re.sub("<[^>]+>", " ", said["text"]["en"]).split())
        assert 60 <= count <= 140, f"{id} has {count} words"


def test_views_are_known_and_every_tensor_of_a_step_is_there(lesson: Lesson) -> None:
    stages = of_prompt(gpt2.load("tiny", "numpy"), np.array([lesson["prompt"]["ids"]]))["tensors"]
    for step, outlined in zip(lesson["steps"], STEPS, strict=True):
        assert step["view"] in VIEWS
        assert len(step["tensors"]) == len(outlined.tensors), step["id"]
        for name in step["tensors"]:
            assert name.replace("{layer}", "1") in {**stages, **lesson["tensors"]}


def test_every_function_of_the_forward_path_appears_in_some_step(lesson: Lesson) -> None:
    shown = {function["name"] for function in functions(lesson)}
    for file in WALKED:
        for name in public_functions(file):
            assert name.endswith("_vjp") or f"{file}.{name}" in shown, f"{file}.{name} is in no step"


@pytest.mark.parametrize("name", sources.mirrored(WALKED))
def test_the_source_shown_is_that_of_the_function_itself(name: str) -> None:
    found = sources.find_source(sources.REFERENCE, name)
    lines, start = inspect.getsourcelines(find_function(name))
    assert found is not None
    assert (found.line, "\n".join(found.lines)) == (start, "".join(lines).rstrip("\n"))


def test_a_changed_function_changes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(sources.REFERENCE, tmp_path / "reference")
    monkeypatch.setattr(sources, "REFERENCE", tmp_path / "reference")
    before = sources.side_by_side("ops.relu", None)
    path = tmp_path / "reference" / "ops.py"
    path.write_text(path.read_text().replace("return np.maximum(x, 0)", "return np.maximum(x, 41)  # changed"))
    after = sources.side_by_side("ops.relu", None)
    changed = [
        new for old, new in zip(before["reference"]["lines"], after["reference"]["lines"], strict=True) if old != new
    ]
    assert len(changed) == 1
    assert "41" in changed[0]
    assert "# changed" in changed[0]


def test_the_twin_shown_is_the_one_that_is_judged() -> None:
    def lines(backend: str) -> str:
        folder = sources.twin_folder(get_backend(backend))
        return "".join(sources.side_by_side("ops.gelu_new", folder)["backend"]["lines"])

    assert "erf" in lines("twin:erf for tanh")
    assert "erf" not in lines(TWIN)
    assert "approximate" in lines("numpy")  # the MindSpore twin can be read without MindSpore


def test_rows_hold_every_line_once_and_in_order(lesson: Lesson) -> None:
    for shown in functions(lesson):
        sides = shown["reference"], shown["backend"]
        for side, source in enumerate(sides):
            places = [row[side] for row in shown["pairs"] if row[side] is not None]
            assert places == list(range(len(source["lines"]) if source else 0)), shown["name"]
        assert [None, None] not in shown["pairs"]


def test_lines_that_differ_in_names_alone_stand_side_by_side() -> None:
    one = (
        "def relu(x: Array) -> Array:",
        '    """max(x, 0).',
        "",
        '    Shapes: x (B)"""',
        "    return np.maximum(x, 0)",
    )
    other = ("def f(x: Tensor) -> Tensor:", '    """max(x, 0)."""', "    return ops.maximum(x, 0)", "# done")
    assert sources.matched_rows(one, other) == [(0, 0), (1, 1), (2, None), (3, None), (4, 2), (None, 3)]


def test_a_line_is_known_by_what_it_computes() -> None:
    one = ("    y = np.exp(x)", "    return np.concatenate(y)")
    other = (
        "    y = ops.exp(x)",
        "    return ops.cat(y)",
        "    y = np.exp(z)",
        "    return np.concatenate(z)",
    )
    assert sources.matched_rows(one, other) == [(0, 0), (1, 1), (None, 2), (None, 3)]


def test_no_line_of_source_leaves_a_tag_open_or_breaks_the_page() -> None:
    for line in sources.highlighted('x = """a < b\n\n</script> & c"""  # <b>'):
        assert line.count("<span") == line.count("</span>")
        assert "</script>" not in line
        assert "<b>" not in line


def test_the_weights_and_the_prediction_are_the_models(lesson: Lesson) -> None:
    tiny = gpt2.load("tiny", "numpy")
    weights = lesson["model"]["weights"]
    assert list(weights) == list(tiny.parameters)
    for name, x in tiny.parameters.items():
        np.testing.assert_array_equal(numbers(weights[name]), x)
    assert lesson["model"]["parameters"] == sum(x.size for x in tiny.parameters.values())
    logits = tiny.stages(lesson["prompt"]["ids"])["logits"][0, -1]
    assert [row["id"] for row in lesson["next"]] == np.argsort(-logits, kind="stable")[:10].tolist()
    expected = softmax(logits.astype(np.float64))
    assert [row["probability"] for row in lesson["next"]] == [expected[row["id"]] for row in lesson["next"]]
    assert lesson["model"]["tokens"][lesson["prompt"]["ids"][-1]] == "\n"
    assert lesson["prompt"]["tokens"][-1] == "↵"


def test_a_model_too_large_for_the_page_brings_all_stages_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "SMALL", 0)
    ids = np.arange(7)[None]
    found = build(model(get_backend(TWIN)), ids, breaks=False)
    stages = model().stages(ids)
    assert found["model"]["weights"] is None
    assert list(found["model"]) == ["name", "config", "parameters", "tokens", "weights"]
    assert set(stages) < set(found["tensors"])
    for name, x in stages.items():
        np.testing.assert_array_equal(numbers(found["tensors"][name]), x)


def test_large_arrays_are_sampled_evenly_and_say_so() -> None:
    x = np.arange(2 * 20 * 50 * 70, dtype=np.float64).reshape(2, 20, 50, 70)
    found = packed(x, ("B", "H", "T", "D"), {"T": [str(i) for i in range(50)]})
    places = found["at"]
    assert (found["shape"], found["full_shape"], found["dtype"]) == ([2, 16, 48, 64], [2, 20, 50, 70], "float64")
    assert places[0] is None
    assert [(each[0], each[-1]) for each in places[1:]] == [(0, 19), (0, 49), (0, 69)]
    np.testing.assert_array_equal(numbers(found), x[np.ix_([0, 1], *places[1:])].astype(np.float32))
    assert found["labels"]["T"] == [str(i) for i in places[2]]


def test_of_many_layers_twelve_are_shown() -> None:
    assert payload.evenly(12, payload.MOST_LAYERS) == list(range(12))
    assert payload.evenly(48, payload.MOST_LAYERS) == [0, 4, 9, 13, 17, 21, 26, 30, 34, 38, 43, 47]


def test_a_correct_twin_agrees_at_every_stage_and_in_every_gradient(lesson: Lesson) -> None:
    verdicts = lesson["verdicts"]
    tiny = gpt2.load("tiny", "numpy")
    expected = {*tiny.stages(lesson["prompt"]["ids"]), "loss", "gradients"}
    assert set(verdicts) == expected | {f"gradients.{name}" for name in tiny.parameters}
    assert all(verdict["agrees"] for verdict in verdicts.values())
    assert verdicts["wte"]["identical"]
    assert verdicts["wte"]["words"] == {"en": "identical bits", "zh": "逐位相同"}
    assert not verdicts["logits"]["identical"]
    assert verdicts["logits"]["noise_ratio"] > 0
    shown = {function["name"]: function["verdict"] for function in functions(lesson)}
    assert shown["attention.attention_scores"] == verdicts["h.0.attn.scores"]
    assert shown["model.language_model_loss_vjp"] == verdicts["gradients"]


def test_the_mindspore_twin_agrees_with_its_automatic_gradients() -> None:
    found = build(model(usable("mindspore pynative")), np.arange(6)[None], breaks=False)
    assert "gradients.wte.weight" in found["verdicts"]
    assert all(verdict["agrees"] for verdict in found["verdicts"].values())
    assert ["MindSpore", importlib.metadata.version("mindspore")] in found["environment"]
    files = {shown["backend"]["file"] for shown in functions(found) if shown["backend"]}
    assert {"ms_backend/ops.py", "ms_backend/attention.py", "ms_backend/model.py"} < files


def test_a_wrong_twin_is_told_at_its_stage() -> None:
    verdicts = of_prompt(gpt2.load("tiny", "twin:scores not scaled"), np.array([[56, 43, 39]]))["verdicts"]
    assert verdicts["h.0.attn.v"]["agrees"]
    assert not verdicts["h.0.attn.scores"]["agrees"]
    assert "differs" in verdicts["h.0.attn.scores"]["words"]["en"]
    assert "不一致" in verdicts["h.0.attn.scores"]["words"]["zh"]


def test_a_twin_of_another_shape_has_words_and_no_numbers() -> None:
    ids = np.arange(3)[None]
    verdict = of_prompt(model(get_backend("twin:float64 leaks in")), ids)["verdicts"]["embeddings"]
    assert (verdict["agrees"], verdict["ulp"], verdict["noise_ratio"]) == (False, None, None)
    assert "float64" in verdict["words"]["en"]


def test_without_a_second_implementation_there_are_no_verdicts() -> None:
    found = build(model(), np.arange(5)[None], breaks=False)
    assert found["verdicts"] == {}
    assert {shown["verdict"] for shown in functions(found)} == {None}
    assert any(shown["backend"] for shown in functions(found))


def test_bugs_part_where_the_judge_says(lesson: Lesson) -> None:
    assert [each["id"] for each in lesson["breaks"]] == [name.replace(" ", "-") for name, *_ in BREAKS]
    for each, (name, step, law) in zip(lesson["breaks"], BREAKS, strict=True):
        bug, first = mutant(name), each["first_wrong"]
        assert any(first.endswith(place) for place in bug.where), name
        assert each["step"] == step
        stages = list(each["noise"])
        assert all(each["noise"][stage] <= 1 and each["alone"][stage] <= 1 for stage in stages[: stages.index(first)])
        assert each["noise"][first] > 1
        assert each["alone"][first] > 1
        assert each["alone"]["logits"] <= 1 < each["noise"]["logits"]  # an error is inherited, blame is not
        assert each["tensors"][first]["full_shape"]
        assert law.removeprefix("laws.").replace("_", " ") == BREAK_WORDS[name]["law"]["en"]
        assert f"“{BREAK_WORDS[name]['law']['en']}”" in each["found_by"]["en"], name
        assert f"“{BREAK_WORDS[name]['law']['zh']}”" in each["found_by"]["zh"], name
        assert all(re.search(rf"\b{re.escape(place)}\b", each["found_by"]["en"]) for place in (first, "gpt2 blame"))


def test_a_bugs_lines_are_those_of_the_sources(lesson: Lesson) -> None:
    for each, (name, *_) in zip(lesson["breaks"], BREAKS, strict=True):
        text = (sources.REFERENCE.parent / each["file"]).read_text().splitlines()
        assert all(line in text for sign, line in each["diff"] if sign in " -" and line != "…"), name
        added = "\n".join(line for sign, line in each["diff"] if sign == "+")
        assert all(edit.new.strip() in added for edit in mutant(name).edits), name


def test_a_bug_that_a_model_hides_is_left_out() -> None:
    config = SMALL.__class__(**(vars(SMALL) | {"activation_function": "relu"}))
    found = build(Model(config, parameters(config), get_backend("numpy")), np.arange(6)[None])
    assert "erf-for-tanh" not in [each["id"] for each in found["breaks"]]
    assert len(found["breaks"]) == len(BREAKS) - 1


def test_the_numbers_of_training_are_the_references(lesson: Lesson) -> None:
    tiny = gpt2.load("tiny", "numpy")
    params = nest(tiny.parameters)
    ids = tiny.generate(lesson["prompt"]["ids"], max_new_tokens=8)
    assert tiny.decode(ids[0]) == "reverse: abcd\ndcba<|endoftext|>"
    tensors = lesson["tensors"]
    logits, _ = plain.language_model(params, ids, tiny.config)
    d_logits = cross_entropy_vjp(np.ones((), np.float32), logits, plain.shift_labels(ids))
    np.testing.assert_array_equal(numbers(tensors["gradients.logits"]), d_logits[0])
    loss = plain.language_model_loss(params, ids, ids, tiny.config)
    descent = numbers(tensors["gradients.descent"])
    start = tensors["gradients.descent"]["labels"]["step"].index("0")
    assert descent[0, start] == descent[1, start] == loss
    assert (np.diff(descent[0]) < 0).all()
    assert len(numbers(tensors["loss.surprise"])) == ids.shape[1] - 1
    whole = tensors["accumulation.gradients"]
    rows, difference = numbers(whole), numbers(tensors["accumulation.difference"])
    np.testing.assert_array_equal(rows[-2] - rows[-1], difference)
    assert whole["labels"]["batch"][-1]["zh"] == "合成一个批次"


def test_answers_alone_are_scored_and_each_task_has_its_own(lesson: Lesson) -> None:
    scored, rows = lesson["tensors"]["task.scored"], lesson["tensors"]["task.next"]["labels"]["task"]
    at = "".join("^" if one else "." for one in numbers(scored))
    assert at == "." * len("reverse: abcd") + "^" * len("\ndcba") + "."
    answers = [
        f"{task} → {answer}<|endoftext|>"
        for task, answer in (("copy", "hbxa"), ("reverse", "axbh"), ("sort", "abhx"), ("upper", "HBXA"))
    ]
    assert rows == answers


def test_float16_breaks_where_the_lesson_says(lesson: Lesson) -> None:
    weights = numbers(lesson["tensors"]["precision.weights"])
    assert np.isnan(weights[0]).all()
    np.testing.assert_array_equal(weights[1:], [[0.25] * 4, [1, 0, 0, 0], [1, 0, 0, 0]])
    largest = numbers(lesson["tensors"]["precision.largest_score"])
    lowest_infinite = np.isinf(largest[1]).argmax()
    assert np.isinf(largest[1]).any()
    assert largest[0, lowest_infinite] < np.finfo(np.float16).max  # what overflowed is the product, not the score
    lost = numbers(lesson["tensors"]["precision.lost_gradients"])
    assert lost[0, 0] > lost[0, -1] == 0
    assert lost[1, 0] == 0 < lost[1, -1]


def test_prompts_are_offered_that_the_model_can_read(lesson: Lesson) -> None:
    tiny = gpt2.load("tiny", "numpy")
    assert "reverse: abcd\n" in lesson["examples"]
    assert all(tiny.encode(text).shape[1] <= tiny.config.n_positions for text in lesson["examples"])
    assert build(model(), breaks=False)["examples"] == []


def test_a_classifier_has_no_lesson() -> None:
    classifier = Model(SMALL, parameters(head="sequence_classifier"), get_backend("numpy"))
    with pytest.raises(GPT2Error, match="the lesson is about a language model"):
        build(classifier, np.arange(4)[None])


def test_every_contract_has_shapes_to_show() -> None:
    for name in contracts():
        assert "->" in sources.shapes(name)
    assert sources.shapes("ops.layer_norm") == "x (B, T, C), weight (C), bias (C) -> (B, T, C)"
    assert sources.shapes("optim.Accumulator") == ""


@pytest.mark.parametrize(("given", "full"), [("layer_norm", "ops.layer_norm"), ("optim.AdamW", "optim.AdamW")])
def test_a_function_is_found_by_its_short_name(given: str, full: str) -> None:
    assert sources.full_name(given) == full


def test_the_page_holds_the_lesson_and_stays_small(lesson: Lesson) -> None:
    page = render(lesson)
    found = re.search(r'<script type="application/json" id="lesson">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == lesson
    assert len(page.encode()) < 3_000_000


def test_the_parts_of_the_script_can_share_one_scope() -> None:
    """A function of the same name in two parts would take the other's place, and nobody would say so."""
    parts = [path.read_text(encoding="utf-8") for path in (PAGE / "scripts").glob("*.js")]
    functions = re.findall(r"^(?:async )?function (\S+?)\(", joined_scripts(), re.MULTILINE)
    assert len(functions) == len(set(functions)) > len(parts)
    imports = [re.findall(r"^import \{ (.*) \} from", part, re.MULTILINE) for part in parts]
    imported = {name for lines in imports for line in lines for name in line.split(", ")}
    exported = {name for part in parts for name in re.findall(r"^export (?:async )?\w+ ([\w$]+)", part, re.MULTILINE)}
    assert imported == exported
    assert not re.search(r"^(import|export)\b", joined_scripts(), re.MULTILINE)


def test_text_that_looks_like_html_cannot_leave_the_data(lesson: Lesson) -> None:
    prompt = {"prompt": lesson["prompt"] | {"text": "</script><script>alert(1)//<!--"}}
    page = render(lesson | prompt)
    assert "alert(1)" in page
    assert "</script><script>alert" not in page
    assert page.count("<!--") == render(lesson).count("<!--")
