"""Residual networks for 32x32 images: narrow (He et al. 2016, section 4.2) and wide ones.

Wide: Zagoruyko & Komodakis 2016, arXiv:1605.07146, sections 2 and 3.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lrensemble.errors import UserError


class Block(nn.Module):
    """Two 3x3 convolutions with a parameter-free shortcut (option A: subsample, pad channels with zeros)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.grow = stride, channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.grow))
        return F.relu(out + shortcut)


def initialise(net: nn.Module) -> nn.Module:
    """Draw the convolutions' weights as He et al. 2015 do, for a constant variance of the gradients; return `net`."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def resnet(*, input_shape: tuple[int, ...], num_classes: int, depth: int = 20, width: int = 16) -> nn.Module:
    """CIFAR ResNet of depth 6n + 2: three stages of n blocks with width, 2 width and 4 width channels.

    ResNet-20 has 269,722 parameters on RGB images with 10 classes.
    """
    if depth < 8 or (depth - 2) % 6:
        raise UserError(f"a CIFAR ResNet cannot have depth {depth}: it must be 6n + 2 (8, 14, 20, 26, 32, ...)")
    layers: list[nn.Module] = [
        nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    channels_in = width
    for stage in range(3):
        channels = width * 2**stage
        for block in range((depth - 2) // 6):
            layers.append(Block(channels_in, channels, stride=2 if stage and not block else 1))
            channels_in = channels
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels_in, num_classes)]
    return initialise(nn.Sequential(*layers, *head))


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; with dropout between the convolutions (figure 1 d).

    Where the shape changes, the shortcut is a 1x1 convolution of what the first convolution sees; else it is the input.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        same = channels_in == channels and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        out: Tensor = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(active)))))
        skip: Tensor = x if self.shortcut is None else self.shortcut(active)
        return skip + out


def wide_resnet(
    *, input_shape: tuple[int, ...], num_classes: int, depth: int = 16, width: int = 4, dropout: float = 0.0
) -> nn.Module:
    """WRN-depth-width: three stages of (depth - 4) / 6 blocks with 16, 32 and 64 times `width` channels.

    The paper drops out 0.3 on CIFAR and 0.4 on SVHN where it does (table 6). On RGB images with 10 classes WRN-28-10
    has 36,479,194 parameters (the paper's 36.5 M) and WRN-16-4 has 2,748,890.
    """
    if depth < 10 or (depth - 4) % 6:
        raise UserError(f"a wide ResNet cannot have depth {depth}: it must be 6n + 4 (10, 16, 22, 28, 34, 40, ...)")
    if width < 1:
        raise UserError(
            f"a wide ResNet cannot have width {width}: it must be a whole number >= 1 (the paper has 1 to 12)"
        )
    layers: list[nn.Module] = [nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False)]
    channels_in = 16
    for stage in range(3):
        channels = 16 * width * 2**stage
        for block in range((depth - 4) // 6):
            stride = 2 if stage and not block else 1
            layers.append(PreActivationBlock(channels_in, channels, stride, dropout))
            channels_in = channels
    head = [nn.BatchNorm2d(channels_in), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialise(nn.Sequential(*layers, *head, nn.Linear(channels_in, num_classes)))
