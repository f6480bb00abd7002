"""A workshop: the baseline of a challenge, and what any set of steps makes of it.

Knows the order of the steps and by which functions of `compression` each is done; the same seeds,
data and order serve each set, so that sets can be compared. Never measures time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from tinytorch import compression, models, storage
from tinytorch.base.errors import SettingError
from tinytorch.capstone.challenge import Challenge, in_order
from tinytorch.capstone.measurement import Measurement, evaluate
from tinytorch.compiler.compile import compile as compiled
from tinytorch.data.loader import DataLoader
from tinytorch.nn.module import Module
from tinytorch.optim.adam import AdamW
from tinytorch.optim.schedules import WarmupCosineLR
from tinytorch.tensor.random import manual_seed
from tinytorch.tensor.tensor import Tensor
from tinytorch.training import Checkpoints, History, Trainer, save_weights
from tinytorch.training.history import Progress, Silent

# Of AdamW (Loshchilov, Hutter 2019, https://arxiv.org/abs/1711.05101, and PyTorch); share of the
# steps in which the rate rises.
WEIGHT_DECAY, WARMUP = 0.01, 0.1
AHEAD = 2  # batches made early


class Workshop:
    """Makes and measures the variants of a challenge's network, each once.

    Args:
        challenge: what is asked.
        seed: of first weights and of the order of the data, the same for every variant.
        folder: keeps trained weights, from which a later workshop goes on; None: nothing is kept.
        data_dir: folder of the data files, or None.
        progress: shows trainings; default nobody.
        downloading: told about downloads, or None.
    """

    def __init__(
        self, challenge: Challenge, seed: int = 0, folder: Path | None = None,
        data_dir: Path | None = None, progress: Progress | None = None,
        downloading: Callable | None = None,
    ):  # fmt: skip
        self.challenge, self.seed, self.folder = challenge, seed, folder
        self.progress = Silent() if progress is None else progress
        self.train, self.test = (
            challenge.part(train, data_dir, downloading) for train in (True, False)
        )
        self._models: dict[tuple[str, ...], Module] = {}
        self._measured: dict[tuple[str, ...], Measurement] = {}

    @property
    def picture(self) -> Tensor:
        """One test sample (1, ...)."""
        return Tensor(self.test[0][0][None])

    @cached_property
    def baseline(self) -> Module:
        """The network, trained on labels; an interrupted training goes on where it was."""
        manual_seed(self.seed)
        model = self.challenge.network()
        kept = None if self.folder is None else Checkpoints(self.folder / "baseline", keep=1)

        def learn() -> History:
            trainer = Trainer(model, **self._settings(model, self.challenge.epochs))
            return trainer.train(
                self._loader(), self.challenge.epochs, checkpoint=kept, resume=kept is not None
            )

        return self._kept("baseline", model, learn)

    def model(self, steps: Iterable[str] = ()) -> Module:
        """What these steps make of the baseline, in evaluation mode.

        Steps that change how a model is run change no model.
        """
        asked = in_order(steps)
        trained = tuple(s for s in asked if s in ("pruning", "distillation"))
        if trained not in self._models:
            self._models[trained] = self._trained(trained)
        if "quantisation" not in asked:
            return self._models[trained]
        rounded = (*trained, "quantisation")
        if rounded not in self._models:
            self._models[rounded] = self._quantized(self._models[trained])
        return self._models[rounded]

    def program(self, steps: Iterable[str] = ()) -> Any:
        """The model of these steps, as they run it: line by line, compiled, or compiled for these
        weights alone, which keeps what follows from them."""
        asked, model = in_order(steps), self.model(steps)
        if "acceleration" not in asked:
            return model
        return compression.apply_acceleration(model) if "caching" in asked else compiled(model)

    def measure(self, steps: Iterable[str] = ()) -> Measurement:
        """What `evaluate` says of it on the test part, measured once."""
        asked = in_order(steps)
        if asked not in self._measured:
            self._measured[asked] = evaluate(self.program(asked), self.test)
        return self._measured[asked]

    # --- the steps that change the model ---

    def _trained(self, steps: tuple[str, ...]) -> Module:
        """The baseline, pruned or whole, trained again with or without its teacher."""
        if not steps:
            return self.baseline
        if "pruning" in steps:
            ratio = self.challenge.ratio
            model = compression.prune_channels(self.baseline, self.picture, ratio)
        else:
            model = copy.deepcopy(self.baseline)

        def learn() -> History:
            manual_seed(self.seed)
            epochs = self.challenge.again
            settings = self._settings(model, epochs)
            if "distillation" not in steps:
                return compression.fine_tune(model, self._loader(), epochs, **settings)
            return compression.distill(
                model, self.baseline, self._loader(), epochs, **settings,
                temperature=self.challenge.temperature, alpha=self.challenge.alpha,
            )  # fmt: skip

        return self._kept("-".join(steps), model, learn)

    def _quantized(self, model: Module) -> Module:
        """Batch norms folded, then static int8."""
        try:
            folded = compression.fold_batch_norm(model, self.picture)
        except SettingError:  # there is none that can be
            folded = model
        shown = min(self.challenge.calibration, len(self.train))
        batch = next(iter(DataLoader(self.train, shown)))
        return compression.quantize(folded, calibration=[batch[0]])

    # --- training ---

    def _loader(self) -> DataLoader:
        # Every batch has one shape: one compiled program serves a whole training.
        size = min(self.challenge.batch_size, len(self.train))
        return DataLoader(
            self.train, size, shuffle=True, seed=self.seed, drop_last=True,
            transform=self.challenge.transform, prefetch=AHEAD,
        )  # fmt: skip

    def _settings(self, model: Module, epochs: int) -> dict[str, Any]:
        lr = self.challenge.lr
        optimizer = AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
        steps = epochs * len(self._loader())
        schedule = WarmupCosineLR(optimizer, int(WARMUP * steps), steps)
        return {
            "optimizer": optimizer, "schedule": schedule, "schedule_every": "step",
            "progress": self.progress,
        }  # fmt: skip

    def _kept(self, name: str, model: Module, learn: Callable[[], History]) -> Module:
        """A model that was trained before and kept, or is trained now."""
        file = None if self.folder is None else self.folder / f"{name}.safetensors"
        if file is not None and file.exists():
            model.load_state_dict(storage.read(file).arrays)
            return model.eval()
        if learn().stopped:  # what is half trained is no model to compare
            raise KeyboardInterrupt
        if file is not None:
            save_weights(model, file)
        return model.eval()


def build_baseline_model(challenge: Challenge | None = None, seed: int = 0) -> Module:
    """The model that is to be made smaller and faster, trained, in evaluation mode.

    Args:
        challenge: whose network is trained, by its own settings; None: the CIFAR-10 network that
            comes trained with the package, `models.pretrained("cifar10")`, which takes no time.
        seed: of first weights and of the order of the data; at least 0.

    Raises:
        DataError: the data files are not there.

    Cost: a training, or nothing.

    Example:
        >>> import tinytorch as tt
        >>> build_baseline_model()(tt.zeros(1, 3, 32, 32)).shape
        (1, 10)
    """
    if challenge is None:
        return models.pretrained("cifar10")
    return Workshop(challenge, seed).baseline
