"""Train a network on data that were collected, with closed-loop evaluation and exact resuming.

The order of rows, noise and dropout follow from the seed, and all that training goes on from is
written after each epoch: a run that was killed and started again ends with the same weights, to
the last digit on a CPU.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import distributed

from diffusion_mpc.learning.dataset import Dataset
from diffusion_mpc.learning.learners import LEARNERS, NetworkOptions
from diffusion_mpc.learning.policy_evaluation import evaluate_policy
from diffusion_mpc.learning.teacher_of_data import teacher_of
from diffusion_mpc.learning.training_rows import TrainingRows
from diffusion_mpc.learning.training_state import STATE, TrainingState, write_state
from diffusion_mpc.names import CheckpointKind, PlanTarget
from diffusion_mpc.policy.checkpoint import (
    CheckpointError,
    Description,
    save_checkpoint,
    write_atomically,
)
from diffusion_mpc.policy.denoiser import MovingAverage
from diffusion_mpc.runtime.controller import plan_structure
from diffusion_mpc.versions import revision, versions


@dataclass(frozen=True)
class TrainOptions:
    """Training.

    Attributes:
        kind: kind of checkpoint
        network: the network
        epochs: passes over the data
        batch: rows of a batch, over all processes
        rate: learning rate, warmed up over 500 steps and lowered to 0 by a cosine
        weight_decay: of AdamW
        seed: same seed, same data, same weights
        trials: episodes of one closed-loop evaluation; 0: none
        evaluate_every: epochs between two closed-loop evaluations; the last epoch has one as well
        duration: length of such an episode, s; 0: the task's
        mirror: show mirror images of half of the rows, where the task says its sides
        residual: of a policy, see `Description.residual`
        history: observations that a policy sees, no more than the data have
        horizon: steps of a diffuser's trajectories
        target: plans that a policy learns
        value: checkpoint of a value, by which what was executed has its label of optimality
    """

    kind: CheckpointKind = "policy"
    network: NetworkOptions = field(default_factory=NetworkOptions)
    epochs: int = 50
    batch: int = 256
    rate: float = 1e-3
    weight_decay: float = 1e-6
    seed: int = 0
    trials: int = 0
    evaluate_every: int = 10
    duration: float = 0.0
    mirror: bool = True
    residual: bool = True
    history: int = 2
    horizon: int = 32
    target: PlanTarget = "planned"
    value: str = ""


class Training:
    """Training of one network in one folder.

    The folder has `best.safetensors` and `last.safetensors`, checkpoints; `state.safetensors`, what
    training goes on from; `log.jsonl`, a line an epoch; and logs for TensorBoard where it is
    installed.
    """

    def __init__(self, data: Sequence[Path], folder: Path, options: TrainOptions) -> None:
        """Open the data and build the network, or go on with what is in the folder.

        Raises:
            ValueError: there are no such data, too few of them, or the folder has other training
        """
        self.data, self.folder, self.options = Dataset(*data), folder, options
        folder.mkdir(parents=True, exist_ok=True)
        self.rank, self.processes = _rank()
        if self.rank == 0:
            for part in folder.glob(".*.part"):
                # Of a training that was killed while it wrote; the file itself is whole.
                part.unlink()
        self._require_one_rate()
        _require_sense(options)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        kind = LEARNERS[options.kind]
        self.rows = TrainingRows(
            self.data,
            kind,
            options.mirror,
            options.horizon,
            options.target,
            Path(options.value) if options.value else None,
        )
        if len(self.rows.train) < options.batch:
            raise ValueError(
                f"there are {len(self.rows.train)} rows to train on, fewer than a batch of "
                f"{options.batch}; collect more, or lower --batch"
            )
        torch.manual_seed(options.seed)
        rows = self.rows.to_fit()
        self.learner = kind(rows, options.network, options.residual, options.history)
        self.learner.fit(self.rows.with_images(rows))
        self.module = self.learner.module.to(self.device)
        self.average = MovingAverage(self.module)
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(),
            lr=options.rate,
            betas=(0.95, 0.999),
            weight_decay=options.weight_decay,
        )
        self.per_epoch = len(self.rows.train) // options.batch
        self.log: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._resume()

    def run(self) -> dict[str, Any]:
        """Train all epochs that are not done.

        Returns:
            figures of the last epoch and of the best, and the path of the best checkpoint
        """
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        quiet = self.rank > 0
        with Progress(
            *columns, TimeRemainingColumn(), console=Console(stderr=True), disable=quiet
        ) as progress:
            bar = progress.add_task("train", total=self.options.epochs, completed=len(self.log))
            for epoch in range(len(self.log), self.options.epochs):
                began = time.perf_counter()
                loss = self._epoch(epoch)
                self.seconds += time.perf_counter() - began
                if self.rank == 0:
                    self._conclude(epoch, loss)
                    line = self.log[-1]
                    shown = f"loss {loss:.4f}, validation {line['validation']:.4f}"
                    if line.get("cost") is not None:
                        shown += f", closed-loop cost {line['cost']:.3f}"
                    progress.update(bar, advance=1, description=shown)
                else:
                    self.log.append({"epoch": epoch})
                if self.processes > 1:
                    distributed.barrier()
        if self.rank > 0:
            return {}
        best = self._best()
        return {
            "kind": self.options.kind,
            "task": self.data.index["task"],
            "rows": len(self.rows.train),
            "validation_rows": len(self.rows.validation),
            "epochs": len(self.log),
            "seconds": self.seconds,
            "last": self.log[-1],
            "best": self.log[best],
            "checkpoint": str(self.folder / "best.safetensors"),
        }

    def _epoch(self, epoch: int) -> float:
        """Train one epoch and return its mean loss."""
        o, losses = self.options, []
        order = np.random.default_rng((o.seed, epoch)).permutation(self.rows.train)
        generator = torch.Generator().manual_seed(_mixed(o.seed, epoch, self.rank))
        self.module.train()
        mine = slice(self.rank, None, self.processes)
        for step, rows in enumerate(self.rows.batches(order, o.batch, mine)):
            rate = _rate(epoch * self.per_epoch + step, o.epochs * self.per_epoch, o.rate)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            # Half precision where a GPU has it; a CPU is no faster with it.
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"
            ):
                loss = self.learner.loss(self.rows.shown(rows, generator), generator, self.device)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._average_gradients()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimizer.step()
            self.average.update(self.module)
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _require_one_rate(self) -> None:
        rates = {teacher_of(index).planner.rate for index in self.data.indices}
        o = self.options
        if len(rates) > 1 and (o.kind in ("value", "diffuser") or o.history > 1):
            raise ValueError(
                f"the data are of plans at {' and '.join(f'{r:g}' for r in sorted(rates))} Hz; "
                "train on those of one rate, or a policy with --history 1"
            )

    def _average_gradients(self) -> None:
        if self.processes == 1:
            return
        for parameter in self.module.parameters():
            distributed.all_reduce(parameter.grad)
            assert parameter.grad is not None
            parameter.grad /= self.processes

    def _conclude(self, epoch: int, loss: float) -> None:
        """Evaluate an epoch, and write its checkpoints and what the next one goes on from."""
        with self._averaged():
            line: dict[str, Any] = {
                "epoch": epoch,
                "loss": loss,
                "validation": self._validate(),
                "cost": None,
            }
            self._save("last", line)
            o = self.options
            due = (epoch + 1) % o.evaluate_every == 0 or epoch + 1 == o.epochs
            if o.trials and due and o.kind != "value":
                line |= evaluate_policy(
                    self.data.index, self.folder / "last.safetensors", o.trials, o.duration
                )
                self._save("last", line)
            self.log.append(line)
            if self._best() == epoch:
                self._save("best", line)
        self._save_state()
        self._write_log()

    def _best(self) -> int:
        """Epoch of the best network: by closed-loop cost where that was measured."""
        measured = [i for i, line in enumerate(self.log) if line.get("cost") is not None]
        if measured:
            return min(measured, key=lambda i: float(self.log[i]["cost"]))
        return min(range(len(self.log)), key=lambda i: float(self.log[i]["validation"]))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged parameters in the network, for a while."""
        own = {name: p.detach().clone() for name, p in self.module.named_parameters()}
        self.average.copy_to(self.module)
        self.module.eval()
        yield
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(own[name])

    @torch.no_grad()
    def _validate(self) -> float:
        """Loss on the held-out episodes, on the training rows where there are none."""
        rows = self.rows.to_validate()
        generator = torch.Generator().manual_seed(0)
        return float(self.learner.loss(rows, generator, self.device))

    def _save(self, name: str, line: Mapping[str, Any]) -> None:
        index, o = self.data.index, self.options
        _, observation = self.data.fields["observation"][0]
        planner = teacher_of(index).planner
        description = Description(
            kind=o.kind,
            task=index["task"],
            model_sha256=index["model_sha256"],
            network=self.learner.network(),
            observation=observation,
            history=self.learner.history,
            plan={**plan_structure(planner), "rate": planner.rate},
            residual=o.residual,
            training={
                "data": " ".join(folder.name for folder in self.data.folders),
                "rows": len(self.rows.train),
                "epochs": int(line["epoch"]) + 1,
                "seconds": round(self.seconds, 1),
                **{
                    k: v
                    for k, v in asdict(o).items()
                    if k not in ("kind", "network", "residual", "history", "value")
                },
                "value": Path(o.value).parent.name,
            },
            figures={k: v for k, v in line.items() if k != "epoch"},
            revision=revision(),
            versions=versions(),
        )
        save_checkpoint(self.folder / f"{name}.safetensors", self.module, description)

    def _save_state(self) -> None:
        about = {
            "options": asdict(self.options),
            "rows": len(self.rows.train),
            "log": self.log,
            "seconds": self.seconds,
        }
        write_state(self.folder / STATE, self.module, self.average, self.optimizer, about)

    def _resume(self) -> None:
        path = self.folder / STATE
        if not path.is_file():
            return
        state = TrainingState(path, self.device)
        # What a training of before does not say was not there to be chosen.
        before = asdict(TrainOptions()) | state.about["options"] | {"rows": state.about["rows"]}
        now = asdict(self.options) | {"rows": len(self.rows.train)}
        changed = [name for name in now if before.get(name) != now[name]]
        if changed:
            raise CheckpointError(
                f"'{self.folder}' has a training with other {', '.join(changed)}; name another "
                "folder with --output"
            )
        state.restore(self.module, self.average, self.optimizer)
        self.log, self.seconds = state.about["log"], float(state.about["seconds"])

    def _write_log(self) -> None:
        text = "".join(json.dumps(line) + "\n" for line in self.log)
        write_atomically(self.folder / "log.jsonl", text.encode())
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            # An extra: the same figures are in log.jsonl.
            return
        with SummaryWriter(str(self.folder)) as writer:
            for name, value in self.log[-1].items():
                if name != "epoch" and isinstance(value, int | float):
                    writer.add_scalar(name, value, self.log[-1]["epoch"])


def _require_sense(options: TrainOptions) -> None:
    """Refuse options that say nothing of this kind of checkpoint, or lack what it needs."""
    executed, kind = options.target == "executed", options.kind
    if executed and kind not in ("policy", "optimality"):
        raise ValueError(f"--target executed is for policies, not a {kind}; leave it out")
    if executed and kind == "optimality" and not options.value:
        raise ValueError(
            "--kind optimality --target executed compares what was executed with a value; train "
            "one with --kind value, and name it with --value"
        )
    if options.value and not (executed and kind == "optimality"):
        raise ValueError("--value is for --kind optimality --target executed; leave it out")


def _rate(step: int, steps: int, rate: float) -> float:
    warm_up = min(500, max(steps // 10, 1))
    if step < warm_up:
        return rate * (step + 1) / warm_up
    return rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1)))


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _rank() -> tuple[int, int]:
    """Number of this process and number of processes, as torchrun starts them."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed.get_rank(), processes
