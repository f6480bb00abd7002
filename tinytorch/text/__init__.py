"""How do characters become numbers? Tokenizers, their vocabularies, and batches of token ids.

Knows text, bytes and NumPy ids, never tensors.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.text.byte_pairs import BytePairTokenizer, load_gpt2_tokenizer
from tinytorch.text.tokenizer import CharacterTokenizer, TokenBatch, Tokenizer, pad
from tinytorch.text.vocabulary import Vocabulary

__all__ = [
    "BytePairTokenizer",
    "CharacterTokenizer",
    "TokenBatch",
    "Tokenizer",
    "Vocabulary",
    "load_gpt2_tokenizer",
    "pad",
]

_explain_all(globals(), __all__)
