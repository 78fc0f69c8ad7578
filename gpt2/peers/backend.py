"""A backend in another process: every method is a request, every model and trainer an object that stays there."""

import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpt2.backends.cached_decoder import CachedDecoder
from gpt2.backends.elementary_errors import measured_errors
from gpt2.backends.protocol import Array, Batch
from gpt2.backends.stage_places import SEEN_ALONE, stage_taps
from gpt2.peers.process import PeerProcess, Remote
from reference.config import GPT2Config, StepReport, TrainingConfig


class Peer:
    """A subject in another interpreter. Its process starts when it is made, and anew when it is asked after a death."""

    def __init__(self, name: str, start: Callable[[], PeerProcess]) -> None:
        """Raises PeerError, with the reason, if it does not start."""
        self.name, self._start = name, start
        self._process = start()
        self.hello = self._process.hello

    @property
    def process(self) -> PeerProcess:
        """Its process, alive: another one after a death."""
        if not self._process.is_alive:
            self._process = self._start()
        return self._process

    def end(self) -> None:
        """End its process; the next request starts another one."""
        self._process.end()


class PeerBackend:
    """The backend that a peer serves. `file`: the file that serves it, whose lines are named where it fails.

    What is raised there comes as PeerError, the death of its process as PeerDiedError: the judge counts either as a
    failure of the case. NotImplementedError stays what it is: the case is not offered.
    """

    sources: Any = None  # no files with the reference's names
    trainer: Any = None

    def __init__(self, peer: Peer, file: Path) -> None:
        self.peer, self.name, self.file = peer, peer.name, file
        self.device, self.dtype, self.mode = (str(peer.hello[field]) for field in ("device", "dtype", "mode"))
        for note in peer.hello.get("notes", ()):
            warnings.warn(note, stacklevel=2)
        versions = {"Python": peer.hello["python"], "NumPy": peer.hello["numpy"], **peer.hello["versions"]}
        self.version = ", ".join(f"{name} {version}" for name, version in versions.items())

    @functools.cached_property
    def accuracy(self) -> Mapping[str, float]:
        """Largest relative error of elementary functions, as the peer declares it or measures it."""
        declared: Mapping[str, float] = self.peer.process.ask("accuracy")
        return declared

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Run one function of the mirror."""
        return self.peer.process.ask("call", function, dict(arguments))

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> "PeerModel":
        """A model with these parameters."""
        return PeerModel(self.peer, config, parameters)

    def end(self) -> None:
        """End its process; the next request starts another one."""
        self.peer.end()


class TwinPeer(PeerBackend):
    """Our own twin on another MindSpore: the whole protocol, training included."""

    def __init__(self, peer: Peer, sources: Path, file: Path, compiled: Callable[[], Any] | None) -> None:
        super().__init__(peer, file)
        self.sources, self._compiled = sources, compiled

    @functools.cached_property
    def compiled(self) -> Any:
        """The same with its functions compiled, in a process of its own. Raises AttributeError if they are already."""
        if self._compiled is None:
            raise AttributeError("compiled")
        return self._compiled()

    def end(self) -> None:
        """End its process, and that of its compiled form, if there is one."""
        super().end()
        if "compiled" in vars(self):
            self.compiled.end()

    def trainer(self, config: GPT2Config, parameters: Mapping[str, Array], settings: TrainingConfig) -> "PeerTrainer":
        """A trainer that starts from these parameters."""
        return PeerTrainer(self.peer.process.ask("trainer", config, dict(parameters), settings))


class TorchPeer(PeerBackend):
    """A GPT-2 of PyTorch's kind. It does not train; its stages are what hooks on its submodules see."""

    # A 16-bit formula rounds after every step; a loss over no label is NaN; no dropout masks are taken.
    supports: Mapping[str, Any] = {"rounds": "every step", "nothing_scored": False, "dropout": False}

    @functools.cached_property
    def accuracy(self) -> Mapping[str, float]:
        """Largest relative error of elementary functions, measured there, in float32."""
        ask = self.peer.process.ask
        return measured_errors(functools.partial(ask, "elementary"), functools.partial(ask, "activation"))

    def offers(self, function: str) -> bool:
        """Whether it is a function that is served, or about whole models."""
        return function in self.peer.hello["functions"] or function.startswith("engine.")

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> "HookedModel":
        """A model with these parameters."""
        return HookedModel(self.peer, config, parameters)


class PeerModel:
    """A model in the peer's process. It keeps its parameters here: after a death it is made again where it is asked."""

    def __init__(self, peer: Peer, config: GPT2Config, parameters: Mapping[str, Array]) -> None:
        self.config, self._peer, self._parameters = config, peer, dict(parameters)
        self._weight = float(sum(x.nbytes for x in parameters.values()))
        self._remote = self._made()

    def _made(self) -> Remote:
        made: Remote = self._peer.process.ask("model", self.config, self._parameters)
        return made

    def ask(self, call: str, *given: Any) -> Any:
        """The result of a method of the model there."""
        if not self._remote.process.is_alive:
            self._remote = self._made()
        return self._remote.process.ask(call, *given, of=self._remote, weight=self._weight)

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of the next token at every position, (B, T, V)."""
        scores: Array = self.ask("logits", ids, attention_mask, position_ids)
        return scores

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of every label, (B, K)."""
        scores: Array = self.ask("classify", ids, attention_mask, position_ids)
        return scores

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Every named stage, those in `given` replaced after they are seen."""
        seen: dict[str, Array] = self.ask("stages", ids, attention_mask, position_ids, dict(given or {}))
        return seen

    def decoder(self, batch_size: int, length: int) -> Any:
        """A decoder for a new batch, in the peer's process."""
        return PeerDecoder(self.ask("decoder", batch_size, length))

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Replace every weight."""
        self.ask("assign", dict(parameters))
        self._parameters = dict(parameters)


class HookedModel(PeerModel):
    """A model whose process offers a forward pass with taps on its submodules, and one with a cache."""

    @functools.cached_property
    def _taps(self) -> dict[str, tuple[str, str]]:
        return stage_taps(self.ask("submodules"), self.config, {})

    @property
    def replaceable(self) -> set[str]:
        """The stages that `given` can replace."""
        return {stage for stage in self._taps if stage.rpartition(".")[2] not in SEEN_ALONE}

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """The stages that its submodules compute, and the scores."""
        replaced = {name: x for name, x in (given or {}).items() if name in self.replaceable}
        seen: dict[str, Array] = self.ask("stages", ids, attention_mask, position_ids, replaced, self._taps)
        return seen

    def decoder(self, batch_size: int, length: int) -> CachedDecoder:
        """A decoder with the model's own cache, which stays in its process; tokens are chosen here."""
        return CachedDecoder(self._read, self._reorder, batch_size)

    def _read(
        self, ids: Array, attention_mask: Array | None, position_ids: Array | None, cache: Remote | None
    ) -> tuple[Array, Remote]:
        scores, read = self.ask("read", ids, attention_mask, position_ids, cache)
        return scores, read

    def _reorder(self, cache: Remote, rows: Array) -> Remote:
        reordered: Remote = self.ask("reorder", cache, rows)
        return reordered


class PeerObject:
    """An object with a state, which ends with the process that it is in: after that, to ask it is a PeerDiedError."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def ask(self, call: str, *given: Any) -> Any:
        """The result of a method of the object there."""
        return self._remote.process.ask(call, *given, of=self._remote)


class PeerDecoder(PeerObject):
    """A decoder in the peer's process."""

    @property
    def slots(self) -> int:
        """How many tokens its cache has room for."""
        return int(self.ask("slots"))

    @property
    def cache_bytes(self) -> int:
        """Memory of the keys and values."""
        return int(self.ask("cache_bytes"))

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Read ids (B, T) into the cache."""
        self.ask("read", ids, attention_mask, position_ids)

    def logits(self) -> Array:
        """Logits of the next token, (B, V)."""
        scores: Array = self.ask("logits")
        return scores

    def greedy(self) -> Array:
        """The likeliest next ids, (B,)."""
        chosen: Array = self.ask("greedy")
        return chosen

    def sample(
        self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0, typical_p: float = 1.0
    ) -> Array:
        """Sampled next ids, (B,)."""
        chosen: Array = self.ask("sample", uniform, temperature, top_k, top_p, min_p, typical_p)
        return chosen

    def advance(self) -> None:
        """Read the ids that were chosen last."""
        self.ask("advance")

    def reorder(self, rows: Array) -> None:
        """Replace sequence i by a copy of sequence rows[i]."""
        self.ask("reorder", rows)


class PeerTrainer(PeerObject):
    """A trainer in the peer's process."""

    def step(self, batch: Batch) -> StepReport:
        """Train on one micro-batch."""
        report: StepReport = self.ask("step", batch)
        return report

    def loss(self, batch: Batch) -> float:
        """The mean loss of a batch."""
        return float(self.ask("loss", batch))

    def stages(self, batch: Batch) -> dict[str, Array]:
        """Every named stage of the forward pass on a batch."""
        seen: dict[str, Array] = self.ask("stages", batch)
        return seen

    def parameters(self) -> dict[str, Array]:
        """Copies of the weights."""
        found: dict[str, Array] = self.ask("parameters")
        return found

    def state(self) -> dict[str, Array]:
        """Everything the next step depends on except the weights."""
        found: dict[str, Array] = self.ask("state")
        return found

    def load_state(self, parameters: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Resume from what `parameters` and `state` returned."""
        self.ask("load_state", dict(parameters), dict(state))
