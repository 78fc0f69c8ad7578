"""Small folders of the kinds that people have; the right values are those of transformers 5.23 on the same folders."""

import json
import shutil
from pathlib import Path

import pytest

import gpt2
from tests.gpt2.command import Ran, run

IDS = ("--ids", "1 2 3")
FIRST = [(55, "4.0358"), (139, "3.4727"), (103, "3.4612")]


@pytest.fixture
def cases(data: Path) -> Path:
    """The folder of the cases, beside that of the real data."""
    folder = data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the cases are not at hand")
    return folder


@pytest.fixture(params=["numpy", "mindspore"])
def engine(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options that name an engine that runs here."""
    if request.param == "numpy":
        return ("--backend", "numpy")
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    return ("--backend", "mindspore", "--mode", "pynative")


@pytest.mark.parametrize(
    ("case", "likeliest", "noted"),
    [
        ("n_ctx_below_n_positions", [(365, "3.5612"), (192, "3.4944"), (260, "3.0785")], ""),
        ("value_head", FIRST, "left out v_head.summary.bias, v_head.summary.weight"),
        ("only_lm_head", FIRST, "lm_head.weight serves as both"),
    ],
)
def test_the_likeliest_tokens(
    case: str, likeliest: list[tuple[int, str]], noted: str, engine: tuple[str, ...], cases: Path
) -> None:
    ran = run("logits", cases / case, *IDS, "--top", 3, "--json", *engine)
    assert [(row["id"], f"{row['logit']:.4f}") for row in json.loads(ran.out)["next"]] == likeliest
    assert (noted in ran.err, ran.err.count("\n")) == (True, bool(noted))


@pytest.mark.parametrize("case", ["several_ends_config", "several_ends_generation_config"])
def test_a_text_ends_at_each_of_its_ends(case: str, engine: tuple[str, ...], cases: Path) -> None:
    ran = run("generate", cases / case, *IDS, "--max-new-tokens", 8, "--json", *engine)
    assert json.loads(ran.out)["new_ids"] == [55, 279, 341]


@pytest.mark.parametrize(("text", "chance"), [("hello world", "0.5742"), ("the quick brown fox", "0.7595")])
def test_one_label_is_a_sigmoid(text: str, chance: str, engine: tuple[str, ...], cases: Path) -> None:
    assert run("classify", cases / "one_label", text, *engine).result == f"LABEL_0\t{chance}\n"


@pytest.mark.parametrize("older", [False, True], ids=["today", "without added_tokens_decoder"])
def test_added_tokens_are_one_id_each(older: bool, cases: Path, tmp_path: Path) -> None:
    """Also where only added_tokens.json has them, as in an older folder."""
    folder = Path(shutil.copytree(cases / "added_tokens", tmp_path / "folder", copy_function=shutil.copyfile))
    settings = folder / "tokenizer_config.json"
    if older:
        fields = json.loads(settings.read_text(encoding="utf-8"))
        del fields["added_tokens_decoder"]
        settings.chmod(0o644)
        settings.write_text(json.dumps(fields), encoding="utf-8")
    loaded = gpt2.load(folder, "numpy")
    assert loaded.encode("<|user|>hello<|endoftext|>").tolist() == [[394, 257, 376, 393]]
    loaded.save(tmp_path / "saved")
    assert gpt2.load(tmp_path / "saved", "numpy").encode("<|user|>hello<|endoftext|>").tolist() == [
        [394, 257, 376, 393]
    ]


def test_nan_among_the_weights_and_float16_that_overflows(engine: tuple[str, ...], cases: Path) -> None:
    def refusal(case: str, command: str, *options: str) -> str:
        found: Ran = run(command, cases / case, *IDS, *engine, *options)
        return found.refusal

    for command in ("generate", "logits"):
        assert "h.1.mlp.c_proj.weight holds NaN or infinity" in refusal("nan_weight", command, "--json")
    assert "it began in stage h.1.mlp.c_proj;" in refusal("nan_weight", "generate", "--allow-nan", "--temperature", "1")
    overflow = refusal("float16_overflow", "generate", "--dtype", "float16")
    assert "new token 1 are NaN or infinite: it began in stage h.0.mlp.c_proj; float16" in overflow
