"""Generation: how a language model speaks, token by token.

`generate` gives tokens, `stream` text; both read the prompt in pieces, keep its keys and values in
a cache, and choose by a `Sampling`. A `Context` kept between calls saves computing what two prompts
have in common. Knows token ids, never text: what makes text of them is given as a function or a
tokenizer.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.generation.automata import Automaton, Json, Regex, matches
from tinytorch.generation.batcher import Batcher, Request, generate_batch
from tinytorch.generation.beams import Beam, beam_search
from tinytorch.generation.constraints import Choices, Grammar
from tinytorch.generation.context import Context, LanguageModel
from tinytorch.generation.generate import Constraint, generate
from tinytorch.generation.sampling import Sampler, Sampling, Token
from tinytorch.generation.speculative import Draft, ModelDraft, NGramDraft
from tinytorch.generation.stream import stream, text_of

__all__ = [
    "Automaton", "Batcher", "Beam", "Choices", "Constraint", "Context", "Draft", "Grammar", "Json",
    "LanguageModel", "ModelDraft", "NGramDraft", "Regex", "Request", "Sampler", "Sampling", "Token",
    "beam_search", "generate", "generate_batch", "matches", "stream",
    "text_of",
]  # fmt: skip

_explain_all(globals(), __all__)
__getattr__ = _names_of("generation", lambda: __all__)
