"""Tiny policies with random weights and invented statistics, saved by lerobot itself."""

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

IMAGE, IMAGE2, STATE, ACTION = ("observation.images.image", "observation.images.image2", "observation.state", "action")
SHAPES = {IMAGE: (FeatureType.VISUAL, (3, 256, 256)), IMAGE2: (FeatureType.VISUAL, (3, 256, 256)),
          STATE: (FeatureType.STATE, (8,)), ACTION: (FeatureType.ACTION, (7,))}

#: Small enough for a second a query on one core.
CONFIGS = {
    "act": dict(chunk_size=8, n_action_steps=4, dim_model=32, n_heads=2, dim_feedforward=32, n_encoder_layers=1,
                latent_dim=4, n_vae_encoder_layers=1, pretrained_backbone_weights=None),
    "diffusion": dict(n_obs_steps=2, horizon=8, n_action_steps=3, down_dims=(16, 32), n_groups=4,
                      diffusion_step_embed_dim=16, crop_shape=(64, 64), num_train_timesteps=4,
                      spatial_softmax_num_keypoints=4),
    "vqbet": dict(n_obs_steps=2, n_action_pred_token=2, action_chunk_size=3, crop_shape=(64, 64), gpt_n_layer=1,
                  gpt_n_head=2, gpt_hidden_dim=16, gpt_input_dim=16, gpt_output_dim=16, vqvae_n_embed=4,
                  vqvae_embedding_dim=8, vqvae_enc_hidden_dim=8),
    "smolvla": dict(chunk_size=6, n_action_steps=4, num_vlm_layers=2, resize_imgs_with_padding=(64, 64), num_steps=2,
                    max_state_dim=8, max_action_dim=8, tokenizer_max_length=16),
}


def statistics(generator):
    """Invented statistics of every feature, none of them 0 or 1."""
    def positive(shape):
        return 0.5 + torch.rand(shape, generator=generator)

    found = {}
    for name, (kind, shape) in SHAPES.items():
        size = (3, 1, 1) if kind is FeatureType.VISUAL else shape
        found[name] = {"mean": torch.rand(size, generator=generator), "std": positive(size),
                       "min": -positive(size), "max": 1 + positive(size)}
    return found


def save_policy(folder, kind, **changes):
    """A policy of type `kind` in `folder`, with its processors; the same weights for the same arguments."""
    images = [IMAGE] if kind == "vqbet" else [IMAGE, IMAGE2]
    features = {name: PolicyFeature(*SHAPES[name]) for name in (*images, STATE)}
    if kind == "smolvla":
        changes = {"vlm_model_name": save_backbone(folder / "backbone"), **changes}
    torch.manual_seed(0)
    config = make_policy_config(kind, input_features=features, output_features={ACTION: PolicyFeature(*SHAPES[ACTION])},
                                device="cpu", push_to_hub=False, **{**CONFIGS[kind], **changes})
    processors = make_pre_post_processors(config, dataset_stats=statistics(torch.Generator().manual_seed(1)))
    for saved in (get_policy_class(kind)(config), *processors):
        saved.save_pretrained(folder)
    return folder


def save_backbone(folder):
    """A SmolVLM of a few thousand parameters with a tokenizer of single bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        PreTrainedTokenizerFast,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    special = {"fake_image_token": "<fake>", "image_token": "<image>", "global_image_token": "<global>",
               "end_of_utterance_token": "<end>"}
    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    letters.train_from_iterator([], trainers.BpeTrainer(
        special_tokens=["<eos>", "<pad>", *special.values()], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<eos>", pad_token="<pad>",
                                        model_max_length=64, extra_special_tokens=special)
    SmolVLMProcessor(SmolVLMImageProcessor(), tokenizer, SmolVLMVideoProcessor(), image_seq_len=4
                     ).save_pretrained(folder)
    config = SmolVLMConfig(
        text_config=dict(model_type="llama", vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32,
                         num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
                         pad_token_id=1),
        vision_config=dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                           image_size=64, patch_size=16),
        scale_factor=2, image_token_id=tokenizer.image_token_id, pad_token_id=1)
    torch.manual_seed(2)
    SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)
