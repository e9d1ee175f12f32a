"""Frames to latents: pixel conventions of upstream, and the first frame's half of the Wan VAE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

#: Bounds of the posterior's log variance (diffusers' DiagonalGaussianDistribution).
LOG_VARIANCE = (-30.0, 20.0)


def channels_first(image: Any) -> np.ndarray:
    """Any image as (3, H, W) float32: grey repeated, alpha dropped, divided by 255 if its largest value is above 1.

    Upstream's rule, kept with its quirk: a uint8 image whose brightest pixel is 1 counts as already scaled.
    Raises ValueError for another shape.
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(f"image has shape {array.shape}, expected (H, W, 3), (H, W, 4), (H, W, 1) or (H, W)")
    array = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[:, :, :3]
    scaled = np.array(array.transpose(2, 0, 1), dtype=np.float32, order="C")
    if array.size and array.max() > 1:
        scaled /= np.float32(255.0)
    return scaled


def to_pixels(image: Any) -> np.ndarray:
    """`channels_first`, then from [0, 1] to [-1, 1]; an image with negative values is there already (diffusers'
    VideoProcessor decides it image by image)."""
    scaled = channels_first(image)
    if scaled.size and scaled.min() >= 0:
        scaled *= 2
        scaled -= 1
    return scaled


class FrameConvolution(nn.Module):
    """A causal 3-D convolution as the first frame of a clip sees it: before it lie zeros, so only the last slice of the
    kernel meets the frame, and a 2-D convolution with a third of the work does the same."""

    def __init__(self, convolution: nn.Conv3d):
        super().__init__()
        self.weight, self.bias = nn.Parameter(convolution.weight[:, :, -1].contiguous()), convolution.bias
        left, right, top, bottom, _, _ = convolution._padding
        if left != right or top != bottom:
            raise ValueError(f"padding {convolution._padding} is not symmetric")
        self.stride, self.padding = convolution.stride[1:], (top, left)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, H, W) -> (B, C', 1, H', W')."""
        frame = functional.conv2d(x.squeeze(2).to(self.weight.dtype), self.weight, self.bias, self.stride, self.padding)
        return frame.unsqueeze(2)


class FrameNorm(nn.Module):
    """The VAE's norm over channels in float32, as under CUDA's autocast; what follows it, an activation and a
    `FrameConvolution`, rounds last. The attention block's norm meets its convolution at once and is rounded here."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.gamma, self.scale = norm.gamma, norm.scale
        self.rounds = norm.gamma.ndim == 3

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        normed = functional.normalize(x.float(), dim=1) * self.scale * self.gamma
        return normed.to(x.dtype) if self.rounds else normed


def first_frame_only(module: nn.Module) -> None:
    """Replace every causal convolution inside `module` by its `FrameConvolution`; drop those in time alone, which the
    first frame skips."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm

    for name, child in list(module.named_children()):
        if name == "time_conv":
            delattr(module, name)
        elif isinstance(child, WanCausalConv3d):
            setattr(module, name, FrameConvolution(child))
        elif isinstance(child, WanRMS_norm):
            setattr(module, name, FrameNorm(child))
        else:
            first_frame_only(child)


class FrameEncoder(nn.Module):
    """The VAE's encoder for one frame: the VAE is causal, so this is latent frame 0 of any clip that begins with it.

    Upstream pads the frame to a clip, encodes it whole and masks all other latent frames out.
    """

    def __init__(self, vae: nn.Module):
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv
        first_frame_only(self)
        channels = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(vae.config.latents_mean, device="cpu").view(channels), False)
        self.register_buffer("std", torch.tensor(vae.config.latents_std, device="cpu").view(channels), False)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the convolutions; the statistics stay float32."""
        return self.quant_conv.weight.dtype

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels (B, 3, H, W) in [-1, 1] -> mean and log variance, each (B, 16, H/8, W/8) float32."""
        moments = self.quant_conv(self.encoder(pixels[:, :, None].to(self.dtype)))[:, :, 0].float()
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def forward(self, pixels: Tensor, noise: Tensor, trace: dict[str, Any] | None = None) -> Tensor:
        """A normalised sample of the posterior, (B, 16, H/8, W/8) float32; noise of this shape is rounded to the
        encoder's precision first."""
        mean, log_variance = self.posterior(pixels)
        sample = mean + torch.exp(0.5 * log_variance) * noise.to(self.dtype).float()
        latents = (sample - self.mean.float()) / self.std.float()
        if trace is not None:
            trace.update(vae_mean=mean, vae_logvar=log_variance, cond_latents=latents)
        return latents
