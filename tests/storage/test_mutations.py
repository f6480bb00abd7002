"""Files damaged at random crash nothing. Ten thousand: python scripts/mutated_files."""

import random
from collections import Counter

import pytest

from tests.storage.mutations import KINDS, mutated
from tests.storage.reading import SOUND, read_checkpoint, read_file


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return SOUND(tmp_path_factory.mktemp("sound"))


@pytest.mark.peer
def test_damaged_files_are_refused_or_read_as_the_peer_reads_them(sound):
    """Ground truth: FileFormatError, or the arrays of the safetensors library; nothing else."""
    choose = random.Random(0)
    found = Counter(read_file(sound, choose) for _ in range(600))
    assert sum(n for name, n in found.items() if "refused" in name) > 400


def test_damaged_checkpoints_are_refused_or_read(sound):
    """Ground truth: FileFormatError or a state, also when all checksums were made to agree."""
    choose = random.Random(0)
    found = Counter(read_checkpoint(sound, choose) for _ in range(200))
    assert sum(n for name, n in found.items() if "refused" in name) > 100


def test_the_damage_is_damage(sound):
    """Ground truth: nearly every mutated file differs from the sound one; every kind occurs."""
    choose = random.Random(0)
    made = [mutated(sound.content, choose) for _ in range(300)]
    assert sum(content != sound.content for _, content in made) > 250
    assert {kind for kind, _ in made} == {kind.__name__ for kind in KINDS}
