"""Manifests: every change is seen, and a manifest cannot point outside its folder."""

import json

import pytest

from tinytorch.base.errors import FileFormatError
from tinytorch.storage import FutureVersionError, manifest
from tinytorch.storage.manifest import FileRecord, Manifest

SOUND = Manifest(
    "note", 1, {"step": 3}, {"a": FileRecord(5, "0" * 64), "b é": FileRecord(0, "f" * 64)}
)


def signed(table: object) -> bytes:
    """A manifest with these contents and the right checksum."""
    return json.dumps({"manifest": table, "sha256": manifest._checksum(table)}).encode()


def table(**changes) -> dict:
    return {**json.loads(manifest.encode(SOUND))["manifest"], **changes}


def test_what_is_encoded_is_decoded():
    """Ground truth: round trip."""
    assert manifest.decode(manifest.encode(SOUND), "note", 1) == SOUND


def test_no_byte_can_change():
    """Ground truth: each byte replaced by three others is refused, or was white space."""
    text = manifest.encode(SOUND)
    for i, byte in enumerate(text):
        for other in (byte ^ 1, byte ^ 32, ord("7")):
            if other == byte:
                continue
            try:
                found = manifest.decode(text[:i] + bytes([other]) + text[i + 1 :], "note", 1)
            except FileFormatError:
                continue
            assert found == SOUND, i


def test_later_versions_are_told_apart_from_damage():
    """Ground truth: an error of its own, that says to install something and to keep the folder."""
    with pytest.raises(FutureVersionError, match="written by a newer TinyTorch") as told:
        manifest.decode(signed(table(version=2, fields="we do not know")), "note", 1)
    assert "keep it" in told.value.fix
    assert manifest.decode(signed(table(version=2)), "note", newest=2).version == 2


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (b"", "the manifest is not JSON"),
        (b'{"a":1,"a":2}', "a key stands twice"),
        (b"[]", "not a manifest"),
        (b'{"manifest":{}}', "not a manifest"),
        (b'{"manifest":{},"sha256":"00"}', "was changed"),
        (b'{"manifest":{},"sha256":[1]}', "was changed"),
        (signed([]), "was changed"),
        (signed({}), "not a note"),
        (signed(table(kind="list")), "not a note"),
        (signed(table(version=0)), "no version"),
        (signed(table(version=True)), "no version"),
        (signed(table(version="1")), "no version"),
        (signed(table(more=1)), "not a manifest"),
        (signed(table(about=[])), "not a manifest"),
        (signed(table(files=[])), "lists no files"),
        (signed(table(files={"a": {}})), "does not describe"),
        (signed(table(files={"a": {"bytes": -1, "sha256": "0" * 64}})), "does not describe"),
        (signed(table(files={"a": {"bytes": 1, "sha256": "0"}})), "does not describe"),
        (signed(table(files={"../a": {"bytes": 1, "sha256": "0" * 64}})), "outside the folder"),
        (signed(table(files={"..": {"bytes": 1, "sha256": "0" * 64}})), "outside the folder"),
        (signed(table(files={"manifest.json": {}})), "outside the folder"),
    ],
)
def test_refused(text, phrase):
    """Ground truth: the rules of a manifest; a phrase of each refusal."""
    with pytest.raises(FileFormatError, match=phrase):
        manifest.decode(text, "note", 1)
