"""`tito generate`: which models speak, what they say, and what is said of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tests.models.test_gguf import written as write_gguf
from tests.test_cli import tito
from tinytorch import compression, generation, models
from tinytorch.base.errors import FileFormatError, NotFoundError, SettingError
from tinytorch.cli import generate as verb
from tinytorch.cli.generate import load_speaker, quantized
from tinytorch.models import GPT, GPTConfig
from tinytorch.storage import gguf
from tinytorch.text import BytePairTokenizer, CharacterTokenizer
from tinytorch.text.sentence_pieces import BYTES

LETTERS = "\n abcdefgh"


@pytest.fixture
def folder(tmp_path):
    """A published model whose tokens are ten characters."""
    tt.manual_seed(1)
    model = GPT(GPTConfig(len(LETTERS), 1, 2, 128, 24))
    models.save_folder(model, tmp_path / "small")
    CharacterTokenizer(LETTERS).save(tmp_path / "small" / "tokenizer.json")
    return tmp_path / "small"


def events(out):
    """The objects of a JSON output, without what changes from run to run."""
    return [json.loads(line) for line in out.splitlines()]


def test_it_goes_on_from_the_prompt(folder, capsys):
    """Ground truth: the most probable characters, each found by a whole pass over all before it."""
    code, out, err = tito(capsys, "generate", folder, "--prompt", "abc", "--max-tokens", 6,
                          "--temperature", 0)  # fmt: skip
    assert code == 0, err
    model, ids = models.load_folder(folder), [LETTERS.index(c) for c in "abc"]
    for _ in range(6):
        ids.append(int(model(tt.tensor([ids])).numpy()[0, -1].argmax()))
    said = "".join(sorted(LETTERS)[i] for i in ids)
    assert out.startswith(said)
    assert "tokens a second" in out and "MB of weights" in out and "bandwidth" in out
    assert "; 6 in all" in out


def test_it_goes_on_beyond_its_context(folder, capsys):
    """Ground truth: 50 tokens were asked for, the context has 24."""
    out = tito(capsys, "generate", folder, "--prompt", "ab", "--max-tokens", 50, "--json")[1]
    assert events(out)[-1]["tokens"] == 50
    assert len("".join(e["text"] for e in events(out) if e["event"] == "piece")) == 52


def test_the_same_seed_says_the_same(folder, capsys):
    """Ground truth: the text itself, twice; another seed says something else."""

    def said(seed):
        words = ("--prompt", "a", "--max-tokens", 20, "--seed", seed, "--json")
        out = tito(capsys, "generate", folder, *words)[1]
        return "".join(e["text"] for e in events(out) if e["event"] == "piece")

    assert said(3) == said(3) != said(4)


def test_weights_of_few_bits(folder, capsys):
    """Ground truth: the bytes of the model, which the report states; three quarters are gone of
    what has many numbers."""
    sizes = {}
    for kind in (None, "int8", "int4"):
        asked = () if kind is None else ("--quantize", kind)
        code, out, err = tito(capsys, "generate", folder, "--json", "--max-tokens", 3, *asked)
        assert code == 0, err
        sizes[kind] = events(out)[-1]["model_bytes"]
    assert sizes[None] == compression.bytes_of(models.load_folder(folder))
    assert sizes[None] > 2 * sizes["int8"] > 2 * sizes["int4"]


def test_it_stops(folder, capsys):
    """Ground truth: a stop text is not printed, and one that never comes changes nothing."""
    words = ("--prompt", "a", "--max-tokens", 12, "--temperature", 0, "--json")
    plain = events(tito(capsys, "generate", folder, *words)[1])
    never = events(tito(capsys, "generate", folder, *words, "--stop", "xyz")[1])
    text = "".join(e["text"] for e in plain[1:] if e["event"] == "piece")
    assert text == "".join(e["text"] for e in never[1:] if e["event"] == "piece")
    stopped = events(tito(capsys, "generate", folder, *words, "--stop", text[2:4])[1])
    assert (
        "".join(e["text"] for e in stopped[1:] if e["event"] == "piece")
        == text[: text.find(text[2:4])]
    )


def test_ctrl_c_ends_it(folder, capsys, monkeypatch):
    """Ground truth: what was said stays, the speed is told, and the exit code is a shell's."""
    real = generation.text_of

    def interrupted(*given):
        yield from (piece for piece, _ in zip(real(*given), range(2), strict=False))
        raise KeyboardInterrupt

    monkeypatch.setattr(generation, "text_of", interrupted)
    code, out, _ = tito(capsys, "generate", folder, "--prompt", "ab")
    assert code == 130 and out.startswith("ab") and "tokens a second" in out


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("--prompt", "a" * 30), "longer than the context"),
        (("--prompt", "xyz"), "not in the vocabulary"),
        (("--temperature", -1), "temperature"),
        (("--top-p", 0), "top_p"),
        (("--stop", ""), "stop string is empty"),
        (("--quantize", "int5"), "no such weights"),
    ],
)
def test_what_it_refuses(folder, capsys, words, phrase):
    """Ground truth: four parts and exit code 2."""
    code, _, err = tito(capsys, "generate", folder, *words)
    assert code == 2 and phrase in err
    assert all(part in err for part in ("got:", "rule:", "fix:"))


def test_an_empty_prompt_begins_a_line(folder):
    """Ground truth: the token of a line's end; of a model with a first token, that one."""
    speaker = load_speaker(folder)
    assert speaker.prompt("").tolist() == [sorted(LETTERS).index("\n")]
    assert speaker.ends() == []


def test_models_that_do_not_speak(folder, tmp_path):
    """Ground truth: what is missing, too large, or reads in both directions."""
    with pytest.raises(NotFoundError):
        load_speaker(tmp_path / "none")
    CharacterTokenizer(LETTERS + "xyz").save(folder / "tokenizer.json")
    with pytest.raises(SettingError, match="does not fit the model"):
        load_speaker(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(NotFoundError, match="no tokenizer"):
        load_speaker(folder)
    models.save_folder(models.BERT(models.BERTConfig(9, 1, 2, 16, 8)), tmp_path / "bert")
    with pytest.raises(FileFormatError, match="what comes next"):
        load_speaker(tmp_path / "bert")


def in_gguf(path, tokens, **facts):
    """A GGUF file of a model with so many tokens, and its tokenizer."""
    tt.manual_seed(1)
    model = GPT(GPTConfig(len(tokens), 1, 2, 32, 24, hidden=64, mlp="gelu_tanh"))
    given = {"add_token_list": (tokens,), **{f"add_{name}": (x,) for name, x in facts.items()}}
    return write_gguf(path, model, facts=given)


def test_a_gguf_file_brings_its_tokenizer(tmp_path, monkeypatch):
    """Ground truth: the ids of the tokenizer that was written into it: GPT-2's way with merges, and
    SentencePiece's with scores. Words that are cut in another way are refused. Its header is read
    once, by counting."""
    plain = BytePairTokenizer.train("to be or not to be, that is the question " * 9, 20)
    facts = {
        "tokenizer_model": "gpt2", "token_merges": [" ".join(pair) for pair in plain.merges],
        "token_types": [1] * len(plain),
    }  # fmt: skip
    tokens = list(plain.vocabulary.tokens)
    made, read = in_gguf(tmp_path / "a.gguf", tokens, **facts), []
    real = gguf.read
    for place, name in ((gguf, "read"), (verb.storage, "read_gguf")):
        monkeypatch.setattr(place, name, lambda path: read.append(path) or real(path))
    speaker = load_speaker(made)
    assert read == [made]
    assert speaker.prompt("to be").tolist() == plain.encode("to be").tolist()
    monkeypatch.undo()
    with pytest.raises(FileFormatError, match="none of ours") as told:
        load_speaker(in_gguf(tmp_path / "b.gguf", tokens, **facts, tokenizer_pre="falcon"))
    assert "falcon" in told.value.got
    later = load_speaker(in_gguf(tmp_path / "b.gguf", tokens, **facts, tokenizer_pre="llama-bpe"))
    assert (later.tokenizer.words, later.tokenizer.whole_words) == ("llama3", True)
    pieces = ["<unk>", "<s>", "</s>", *BYTES, "▁", "t", "o", "to", "▁to"]
    scores = [0.0] * (len(pieces) - 2) + [-1.0, -2.0]
    types = [2, 3, 3] + [6] * 256 + [1] * 5
    spoken = load_speaker(in_gguf(
        tmp_path / "c.gguf", pieces, tokenizer_model="llama", token_scores=scores,
        token_types=types,
    ))  # fmt: skip
    assert spoken.prompt("to").tolist() == [1, pieces.index("▁to")]
    assert spoken.ends() == [2]


@pytest.mark.data
def test_a_published_story(official_data, tmp_path, capsys):
    """Ground truth: llama2.c's stories260K begins so at temperature 0, as its README shows; its
    tokenizer lies beside it, and the token that begins a text is put first."""
    place = official_data / "llama2c-stories260K"
    code, out, err = tito(capsys, "generate", place / "stories260K.bin", "--temperature", 0,
                          "--max-tokens", 30)  # fmt: skip
    assert code == 0, err
    assert out.startswith("Once upon a time, there was a little girl named Lily.")
    shutil.copy(place / "stories260K.bin", tmp_path / "alone.bin")
    with pytest.raises(NotFoundError, match="no tokenizer beside"):
        load_speaker(tmp_path / "alone.bin")


def test_quantizing_leaves_the_model(folder):
    """Ground truth: the weights before."""
    speaker = load_speaker(folder)
    before = {name: np.array(x) for name, x in speaker.model.state_dict().items()}
    assert quantized(speaker, None) is speaker
    assert quantized(speaker, "int8").model is not speaker.model
    for name, x in speaker.model.state_dict().items():
        assert np.array_equal(before[name], np.asarray(x))
    assert verb.QUANTIZED == ("int8", "int4")


def test_what_ships_speaks_without_a_run(tmp_path, monkeypatch, capsys):
    """Ground truth: the most probable characters, each by a whole pass over all before it; a folder
    of that name comes first."""
    monkeypatch.chdir(tmp_path)
    code, out, err = tito(capsys, "generate", "shakespeare", "--prompt", "KING", "--max-tokens", 8,
                          "--temperature", 0, "--json")  # fmt: skip
    assert code == 0, err
    *pieces, done = events(out)
    model, tokenizer = models.pretrained("shakespeare"), load_speaker(Path("shakespeare")).tokenizer
    ids = tokenizer.encode("KING").tolist()
    with tt.no_grad():
        for _ in range(8):
            ids.append(int(model(tt.tensor([ids])).numpy()[0, -1].argmax()))
    assert "".join(e["text"] for e in pieces) == tokenizer.decode(ids)
    assert done["tokens"] == 8 and done["model_bytes"] < 3e6
    (tmp_path / "shakespeare").mkdir()
    assert tito(capsys, "generate", "shakespeare")[0] == 2
