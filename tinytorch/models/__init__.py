"""Known networks, ready to train."""

from tinytorch.models.cnn import CNN
from tinytorch.models.gpt import GPT, GPTConfig, next_token_loss
from tinytorch.models.mlp import MLP
from tinytorch.models.vit import VisionTransformer

__all__ = ["CNN", "GPT", "GPTConfig", "MLP", "VisionTransformer", "next_token_loss"]
