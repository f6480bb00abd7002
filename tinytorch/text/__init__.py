"""How do characters become numbers? Tokenizers, their vocabularies and files, token ids on disk.

Knows text, bytes and NumPy ids, never tensors.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.text.byte_pairs import BytePairTokenizer, load_gpt2_tokenizer
from tinytorch.text.corpus import map_tokens, write_tokens
from tinytorch.text.sentence_pieces import SentencePieceTokenizer
from tinytorch.text.tokenizer import (
    ByteTokenizer,
    CharacterTokenizer,
    TokenBatch,
    Tokenizer,
    pad,
)
from tinytorch.text.tokenizer_files import load_tokenizer
from tinytorch.text.tokenizer_json import save_tokenizer_json
from tinytorch.text.vocabulary import Vocabulary

__all__ = [
    "BytePairTokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "SentencePieceTokenizer",
    "TokenBatch",
    "Tokenizer",
    "Vocabulary",
    "load_gpt2_tokenizer",
    "load_tokenizer",
    "map_tokens",
    "pad",
    "save_tokenizer_json",
    "write_tokens",
]

_explain_all(globals(), __all__)
