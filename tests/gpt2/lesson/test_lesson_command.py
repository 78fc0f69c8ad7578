"""`gpt2 lesson` and `gpt2 compare`: the file, the server on this machine alone, both sources in the terminal."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gpt2 import lesson as course
from gpt2.errors import GPT2Error
from gpt2.lesson.outline import STEPS
from gpt2.lesson.server import LARGEST_BODY, LessonHandler, LessonServer
from parity.cases.cases import LARGE
from tests.gpt2.command import run
from tests.gpt2.small import ROOT, folder_of, parameters

TWIN = "twin:reordered"
PAGE = "<!DOCTYPE html><title>步</title>"


def embedded(page: str) -> dict[str, Any]:
    """The lesson that a page holds."""
    found = re.search(r'<script type="application/json" id="lesson">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture
def without_bugs() -> Iterator[None]:
    """The lesson without planted bugs, which take most of the time."""
    build = course.build
    with mock.patch.object(course, "build", lambda *given, **options: build(*given, **options, breaks=False)):
        yield


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    said = run("lesson", "--output", path, "--backend", TWIN).result
    found = embedded(path.read_text(encoding="utf-8"))
    assert found["prompt"]["text"] == "reverse: abcd\n"
    assert (len(found["steps"]), found["server"], bool(found["breaks"])) == (len(STEPS), False, True)
    assert said == (
        f"{path}: {len(STEPS)} steps, {path.stat().st_size / 1e6:.1f} MB; "
        f"all {len(found['verdicts'])} results agree with the reference\n"
    )
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("without_bugs")
def test_prompt_and_model_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    run("lesson", "--output", path, "--prompt", "sort: dbca\n", "--backend", "twin:scores not scaled")
    assert embedded(path.read_text())["prompt"]["text"] == "sort: dbca\n"
    said = run(
        "lesson", "--model", folder_of(tmp_path / "small"), "--ids", "3 1 4", "--output", path, "--backend", "numpy"
    ).result
    found = embedded(path.read_text())
    assert (found["model"]["name"], found["prompt"]["ids"], found["prompt"]["text"]) == ("small", [3, 1, 4], None)
    assert "no second implementation to judge: pip install" in said


@pytest.mark.usefixtures("without_bugs")
def test_a_twin_that_differs_is_told(tmp_path: Path) -> None:
    said = run("lesson", "--output", tmp_path / "page.html", "--backend", "twin:scores not scaled").result
    assert re.search(r"; \d+ of \d+ results differ from the reference, first h\.0\.attn\.scores\n", said)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--prompt", "a", "--ids", "1"), "give only one of PROMPT, --ids"),
        (("--prompt", ""), "the prompt is empty"),
        (("--prompt", "a" * 65), "65 tokens exceed the context of 64"),
        (("--prompt", "日"), "the tokenizer has no token for '日'"),
        (("--ids", "66"), "66 is outside the vocabulary"),
        (("--model", "/nowhere"), "/nowhere"),
        (("--backend", "nothing"), "unknown backend 'nothing'"),
        (("--port", "70000"), "70000"),
        (("--dtype", "float64"), "float64"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    engine = () if "--backend" in arguments else ("--backend", "numpy")
    assert line in run("lesson", "--output", tmp_path / "page.html", *engine, *arguments).refusal
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(course, "build")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for output in (tmp_path / "folder", tmp_path / "file" / "page.html"):
        assert run("lesson", "--output", output, "--backend", "numpy").refusal.startswith(f"cannot write {output}")


def test_a_classifier_has_no_lesson(tmp_path: Path) -> None:
    classifier = folder_of(tmp_path / "classifier", tensors=parameters(head="sequence_classifier"))
    assert "classification head" in run("lesson", "--model", classifier, "--backend", "numpy").refusal


@contextlib.contextmanager
def serving() -> Iterator[LessonServer]:
    """A server on a free port that answers every prompt with its length, but refuses 'bad'."""

    def compute(text: str) -> Mapping[str, Any]:
        if text == "bad":
            raise GPT2Error("that is no prompt")
        return {"length": len(text)}

    with LessonServer(0, PAGE, compute) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(
    server: LessonServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPResponse, bytes]:
    """What the server answers: status, response, body. headers: Content_Type is Content-Type."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    response = connection.getresponse()
    with contextlib.closing(connection):
        return response.status, response, response.read()


def post(server: LessonServer, body: bytes, **headers: str) -> tuple[int, Any]:
    status, _, answer = ask(server, "POST", "/lesson", body, **({"Content_Type": "application/json"} | headers))
    return status, json.loads(answer)


def test_the_server_gives_the_page_and_the_numbers_of_a_prompt() -> None:
    with serving() as server:
        status, response, body = ask(server, "GET", "/")
        assert (status, body.decode()) == (200, PAGE)
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Server"].strip() == "gpt2"
        assert post(server, json.dumps({"prompt": "abc\n"}).encode()) == (200, {"length": 4})
        own = f"http://127.0.0.1:{server.server_port}"
        assert post(server, b'{"prompt": "a"}', Origin=own) == (200, {"length": 1})


def test_a_prompt_that_does_not_fit_is_one_line() -> None:
    with serving() as server:
        assert post(server, b'{"prompt": "bad"}') == (400, {"error": "that is no prompt"})
        for body in (b"{", b"[]", b'{"prompt": 3}', b"\xff", b"{}"):
            status, answer = post(server, body)
            assert status == 400
            assert list(answer) == ["error"]
            assert "\n" not in answer["error"]


def test_only_its_own_page_is_answered() -> None:
    with serving() as server:
        for name in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", "127.0.0.1:1"):
            assert ask(server, "GET", "/", Host=name)[0] == 403, name
            assert post(server, b'{"prompt": "a"}', Host=name)[0] == 403, name
        assert ask(server, "GET", "/", Host=f"localhost:{server.server_port}")[0] == 200
        assert post(server, b'{"prompt": "a"}', Origin="http://evil.example")[0] == 403
        assert post(server, b'{"prompt": "a"}', Origin="null")[0] == 403
        status, answer = post(server, b'{"prompt": "a"}', Content_Type="text/plain")
        assert status == 400
        assert "application/json" in answer["error"]


def test_nothing_else_is_served_and_nothing_large_is_read() -> None:
    with serving() as server:
        for path in ("/lesson", "/../etc/passwd", "/page.js", "/?x"):
            assert ask(server, "GET", path)[0] == 404, path
        assert ask(server, "POST", "/", b"{}", Content_Type="application/json")[0] == 404
        for length in (str(LARGEST_BODY + 1), "-1", "many"):
            status, answer = post(server, b"", Content_Length=length)
            assert status == 400
            assert str(LARGEST_BODY) in answer["error"]
        body = json.dumps({"prompt": "a" * (LARGEST_BODY - len('{"prompt": ""}'))}).encode()
        assert len(body) == LARGEST_BODY
        assert post(server, body)[0] == 200


def test_a_silent_connection_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LessonHandler, "timeout", None)
    with serving() as server, socket.create_connection(("127.0.0.1", server.server_port)):
        assert ask(server, "GET", "/")[0] == 200


def test_a_port_that_is_taken_is_one_line() -> None:
    with (
        serving() as server,
        pytest.raises(GPT2Error, match=f"cannot listen on 127.0.0.1:{server.server_port}: .*; choose another --port"),
    ):
        LessonServer(server.server_port, PAGE, lambda text: {})


def test_ctrl_c_ends_the_server(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-u",
        "-m",
        "gpt2",
        "lesson",
        "--serve",
        "--port",
        "0",
        "--backend",
        "numpy",
        "--model",
        str(folder_of(tmp_path / "small")),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "GPT2_BACKEND"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.fullmatch(
            r"The lesson is at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n", process.stdout.readline()
        )
        try:
            assert found is not None
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=10)
            connection.request("GET", "/")
            assert embedded(connection.getresponse().read().decode())["server"] is True
        finally:
            process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "The lesson has ended.\n"
        assert process.wait(timeout=30) == 0


def test_compare_shows_both_sources_beside_each_other() -> None:
    lines = run("compare", "relu", "--backend", "twin:relu6 for relu", environment={"COLUMNS": "160"}).out.splitlines()
    assert lines[0] == "ops.relu  x (B, T, C) -> (B, T, C)"
    assert any(re.fullmatch(r"    return np\.maximum\(x, 0\) +return np\.clip\(x, 0, 6\) *", line) for line in lines)
    assert lines[-1].startswith("twin:relu6 for relu, float32, ")
    assert "differs" in lines[-1]


def test_compare_is_narrow_in_a_narrow_terminal() -> None:
    out = run("compare", "ops.relu", "--backend", TWIN, environment={"COLUMNS": "80"}).result
    assert out.count("    return np.maximum(x, 0)\n") == 2
    assert out.count("def relu(x: Array) -> Array:\n") == 2


@pytest.mark.parametrize(("backend", "code"), [(TWIN, 0), ("twin:erf for tanh", 1)])
def test_compare_gives_its_facts_to_machines(backend: str, code: int) -> None:
    ran = run("compare", "gelu_new", "--backend", backend, "--examples", 4, "--json")
    facts = json.loads(ran.out)
    assert ran.code == code
    assert (facts["function"], facts["verdict"]["agrees"]) == ("ops.gelu_new", code == 0)
    assert (facts["reference"]["file"], facts["backend"]) == ("reference/ops.py", backend)
    places = [row[0] for row in facts["rows"] if row[0] is not None]
    assert places == list(range(len(facts["reference"]["lines"])))
    assert facts["verdict"]["cases"] == 4 + len(LARGE) if code == 0 else facts["verdict"]["cases"] <= 4


def test_compare_says_what_it_cannot_judge() -> None:
    assert "no second implementation to judge" in run("compare", "relu", "--backend", "numpy").result
    assert "no rule for this function alone" in run("compare", "Accumulator", "--backend", TWIN).result
    shown = run("compare", "softmax_vjp", "--backend", "numpy").result
    assert "The twin has no such function. Its gradients are automatic." in shown


def test_an_unknown_function_suggests_near_ones() -> None:
    assert run("compare", "layernorm").refusal == (
        "no function of the mirror is called 'layernorm': did you mean layer_norm or ops.layer_norm or layer_norm_vjp?"
    )
    assert "try 'layer_norm'" in run("compare", "§").refusal
