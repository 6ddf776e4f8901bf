"""The tiny base's place in the cache: another one for another recipe, the same one for a newer rxdraft."""

from __future__ import annotations

from training.config import TrainConfig, load_config
from training.tiny import base_name


class Later(TrainConfig):
    """A config as a later version has it."""

    new_setting: int = 0


def test_a_new_setting_with_a_default_makes_no_base_anew() -> None:
    config = load_config("tiny_base")
    assert base_name(Later.model_validate(config.model_dump())) == base_name(config)


def test_another_recipe_is_another_base() -> None:
    names = {base_name(load_config("tiny_base", [change])) for change in ("seed=0", "seed=1", "learning_rate=1e-3")}
    assert len(names) == 3


def test_a_gpu_makes_it_in_float32_too() -> None:
    assert load_config("tiny_base").dtype == "float32"
