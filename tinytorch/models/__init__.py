"""Known networks, ready to train; those that other programs wrote load too."""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.models.bert import (
    BERT,
    BERTClassifier,
    BERTConfig,
    BERTMaskedLM,
    mask_tokens,
    masked_lm_loss,
)
from tinytorch.models.classifiers import (
    CNN,
    MLP,
    LeNet,
    VisionTransformer,
)
from tinytorch.models.generative import (
    ConvVAE,
    DCGANDiscriminator,
    DCGANGenerator,
    VAEOutput,
    discriminator_loss,
    generator_loss,
    vae_loss,
)
from tinytorch.models.gguf import load_gguf
from tinytorch.models.gpt import GPT, GPTConfig, next_token_loss
from tinytorch.models.hugging_face import load_folder, save_folder
from tinytorch.models.llama2c import load_llama2c
from tinytorch.models.onnx import ONNXModel, load_onnx
from tinytorch.models.pretrained import pretrained, pretrained_facts
from tinytorch.models.published import load
from tinytorch.models.resnet import (
    CifarResNet,
    ResNet,
    cifar_resnet,
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet50,
    resnet56,
)
from tinytorch.models.rotary import llama3_factors, yarn_factors, yarn_scale
from tinytorch.models.seq2seq import Seq2Seq, Seq2SeqConfig
from tinytorch.models.swift_cnn import SwiftCNN
from tinytorch.models.tiny_yolo import TinyYOLO, yolo_boxes, yolo_detections, yolo_loss
from tinytorch.models.whitened import WhitenedCNN

__all__ = [
    "ONNXModel", "load_onnx",
    "BERT", "BERTClassifier", "BERTConfig", "BERTMaskedLM", "CNN", "CifarResNet", "ConvVAE",
    "DCGANDiscriminator", "DCGANGenerator", "GPT", "GPTConfig", "LeNet", "MLP", "ResNet",
    "Seq2Seq", "Seq2SeqConfig", "SwiftCNN", "TinyYOLO", "VAEOutput", "VisionTransformer",
    "WhitenedCNN", "cifar_resnet", "discriminator_loss", "generator_loss", "llama3_factors", "load",
    "load_folder", "load_gguf", "load_llama2c", "mask_tokens", "masked_lm_loss",
    "next_token_loss", "pretrained", "pretrained_facts", "resnet18", "resnet20", "resnet32",
    "resnet34", "resnet50", "resnet56", "save_folder", "vae_loss", "yarn_factors", "yarn_scale",
    "yolo_boxes", "yolo_detections", "yolo_loss",
]  # fmt: skip

_explain_all(globals(), __all__)
